// Descriptors and buffers.
#pragma once

#include <rondo/io/buffer.hpp>
#include <rondo/io/buffered_reader.hpp>
#include <rondo/io/buffered_writer.hpp>
#include <rondo/io/copy.hpp>
#include <rondo/io/descriptor.hpp>
#include <rondo/io/fd_watch.hpp>
#include <rondo/io/listener.hpp>
#include <rondo/io/owned_descriptor.hpp>
#include <rondo/io/relay.hpp>
#include <rondo/io/stream.hpp>
