// Addresses: what is one, what is none, and that printing and parsing agree.
#include "support/test.hpp"

#include <net/if.h>

#include <set>

// g++ 12 sees a small string's buffer overflow in `std::string(5000, c) + "..."`, which has none.
#pragma GCC diagnostic ignored "-Warray-bounds"
#if RONDO_GCC12
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif

using namespace rondo;
using namespace std::string_literals;

namespace {

/// An interface that is there on every machine; empty if even that is missing.
std::string some_interface() {
    char name[IF_NAMESIZE];
    return if_indextoname(1, name) != nullptr ? name : "";
}

TEST_CASE("ip_address: prints what it parsed, in the shortest form") {
    const std::pair<const char*, const char*> table[] = {
        {"0.0.0.0", "0.0.0.0"},
        {"127.0.0.1", "127.0.0.1"},
        {"255.255.255.255", "255.255.255.255"},
        {"1.2.3.4", "1.2.3.4"},
        {"10.0.0.200", "10.0.0.200"},
        {"::", "::"},
        {"::1", "::1"},
        {"1::", "1::"},
        {"0:0:0:0:0:0:0:1", "::1"},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
        {"2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"},
        {"2001:db8:1:1:1:1:0:1", "2001:db8:1:1:1:1:0:1"},
        {"fe80::1", "fe80::1"},
        {"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
        {"::ffff:0102:0304", "::ffff:1.2.3.4"},
        {"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    };
    for (const auto& [text, printed] : table) {
        CAPTURE(text);
        const ip_address address = ip_address::parse(text);
        CHECK(address.to_string() == printed);
        CHECK(ip_address::parse(address.to_string()) == address);
        CHECK(address.is_v4() != address.is_v6());
        CHECK(address.is_v6() == (std::string_view(text).find(':') != std::string_view::npos));
    }
}

TEST_CASE("ip_address: refuses what is none, and quotes it") {
    std::vector<std::string> table = {
        "",
        " ",
        ".",
        ":",
        "::1 ",
        " ::1",
        "localhost",
        "example.org",
        "127.0.0.1 ",
        " 127.0.0.1",
        "127.0.0",
        "127.0.0.",
        ".127.0.0.1",
        "127.0.0.1.",
        "127.0.0.1.1",
        "127..0.1",
        "127.0.0.256",
        "127.0.0.-1",
        "127.0.0.+1",
        "127.0.0.1e0",
        "0x7f.0.0.1",
        "127.0.0.01",
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "1.2.3.4/8",
        "1.2.3.4:80",
        "1.2.3.4%lo",
        "1.2.3.4%1",
        "1.2.3.4%",
        "\xef\xbc\x91.2.3.4",
        "\n127.0.0.1",
        "127.0.0.1\n",
        ":::",
        "::1::",
        "1::2::3",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        ":1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:",
        "12345::",
        "::g",
        "::-1",
        "::ffff:1.2.3",
        "::ffff:1.2.3.256",
        "::1.2.3.4.5",
        "[::1]",
        "[::1",
        "::1]",
        "[127.0.0.1]",
        "::1/128",
        "::1%",
        "fe80::1%",
        "fe80::1%%1",
        "fe80::1%no-such-interface",
        "fe80::1%nosuch0",
        "fe80::1%0",
        "fe80::1%-1",
        "fe80::1%4294967296",
        "fe80::1%99999999999999999999",
        "fe80::1% 1",
        "fe80::1%1 ",
        "%1",
        "%",
        // A NUL ends a C string, but not one of ours.
        "127.0.0.1\0"s,
        "127.0.0.1\0.evil.example"s,
        "\0"s,
        "\0127.0.0.1"s,
        "::1\0"s,
        "fe80::1%1\0"s,
        "fe80::1%\0"s,
        "fe80::1\0%1"s,
    };
    table.push_back("fe80::1%" + some_interface() + "\0"s);
    table.push_back("fe80::1%" + some_interface() + "\0x"s);
    // Longer than any address or interface name.
    for (const std::size_t size : {64, 1 << 20}) table.emplace_back(size, '1');
    table.emplace_back(4096, ':');
    table.push_back("1.2.3." + std::string(300, '0') + "4");
    table.push_back("fe80::1%" + std::string(16, 'x'));
    table.push_back("fe80::1%" + std::string(100'000, 'x'));
    for (const std::string& text : table) {
        CAPTURE(text.substr(0, 100));
        const auto tried = ip_address::try_parse(text);
        CHECK_FALSE(tried);
        CHECK(tried.error() == std::errc::invalid_argument);
        std::string said;
        try {
            static_cast<void>(ip_address::parse(text));
        } catch (const std::system_error& e) {
            CHECK(e.code() == std::errc::invalid_argument);
            said = e.what();
        }
        CHECK(said.find("not an IP address: '") != std::string::npos);
        CHECK(said.size() < 200);
        for (const char c : said) CHECK((c >= ' ' && c < 127));  // safe for a log
    }
}

TEST_CASE("ip_address: a zone is an interface, by name or number, and prints as it parses") {
    const std::string name = some_interface();
    if (name.empty()) {
        MESSAGE("skipped: no interface has the index 1 here");
        return;
    }
    const ip_address by_number = ip_address::parse("fe80::1%1");
    CHECK(by_number == ip_address::parse("fe80::1%" + name));
    CHECK(by_number != ip_address::parse("fe80::1"));
    CHECK(by_number.to_string() == "fe80::1%" + name);
    CHECK(ip_address::parse(by_number.to_string()) == by_number);
    const endpoint at(by_number, 80);
    CHECK(at.to_string() == "[fe80::1%" + name + "]:80");
    CHECK(endpoint::parse(at.to_string()) == at);
    // An index nobody has yet is a number all the same.
    const ip_address unnamed = ip_address::parse("fe80::1%4294967295");
    CHECK(unnamed.to_string() == "fe80::1%4294967295");
    CHECK(ip_address::parse(unnamed.to_string()) == unnamed);
}

TEST_CASE("ip_address: knows loopback, any, and an order") {
    CHECK(ip_address::loopback_v4() == ip_address::parse("127.0.0.1"));
    CHECK(ip_address::loopback_v6() == ip_address::parse("::1"));
    CHECK(ip_address::any_v4() == ip_address::parse("0.0.0.0"));
    CHECK(ip_address::any_v6() == ip_address::parse("::"));
    CHECK(ip_address::parse("127.255.0.1").is_loopback());
    CHECK(ip_address::parse("::1").is_loopback());
    CHECK_FALSE(ip_address::parse("128.0.0.1").is_loopback());
    CHECK_FALSE(ip_address::parse("::2").is_loopback());
    CHECK(ip_address::any_v4().is_unspecified());
    CHECK(ip_address::any_v6().is_unspecified());
    CHECK_FALSE(ip_address::loopback_v4().is_unspecified());
    CHECK_FALSE(ip_address::loopback_v6().is_unspecified());

    CHECK(ip_address::any_v4() != ip_address::any_v6());
    CHECK(ip_address::parse("9.0.0.1") < ip_address::parse("10.0.0.0"));  // by value, not as text
    CHECK(ip_address::parse("255.255.255.255") < ip_address::parse("::"));
    CHECK(ip_address::parse("::1") < ip_address::parse("::1:0"));
    std::set<ip_address> all{ip_address::any_v6(), ip_address::any_v4(), ip_address::any_v6()};
    CHECK(all.size() == 2);
}

TEST_CASE("endpoint: prints what it parsed") {
    const std::pair<const char*, const char*> table[] = {
        {"127.0.0.1:80", "127.0.0.1:80"},
        {"0.0.0.0:0", "0.0.0.0:0"},
        {"255.255.255.255:65535", "255.255.255.255:65535"},
        {"[::]:0", "[::]:0"},
        {"[::1]:80", "[::1]:80"},
        {"[2001:DB8:0::1]:443", "[2001:db8::1]:443"},
        {"[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.4]:5"},
    };
    for (const auto& [text, printed] : table) {
        CAPTURE(text);
        const endpoint at = endpoint::parse(text);
        CHECK(at.to_string() == printed);
        CHECK(endpoint::parse(at.to_string()) == at);
        CHECK(endpoint(at.address(), at.port()) == at);
        CHECK(endpoint(at.address().to_string(), at.port()) == at);
    }
    CHECK(endpoint("::1", 80).to_string() == "[::1]:80");
    CHECK(endpoint("127.0.0.1", 65535).port() == 65535);
    CHECK_THROWS_AS(endpoint("localhost", 80), std::system_error);
    CHECK(endpoint().to_string() == "(none)");
    CHECK(endpoint() == endpoint());
    CHECK(endpoint() != endpoint("0.0.0.0", 0));
    CHECK(endpoint("127.0.0.1", 80) < endpoint("127.0.0.1", 81));
    CHECK(endpoint("127.0.0.1", 81) < endpoint("127.0.0.2", 80));
    CHECK(endpoint("127.0.0.1", 80) < endpoint("::", 0));
}

TEST_CASE("endpoint: refuses what is none") {
    std::vector<std::string> table = {
        "",
        ":",
        "::",
        "[]:80",
        "[",
        "]",
        "[]",
        "[]:",
        "[:]:80",
        ":80",
        "80",
        "127.0.0.1",
        "127.0.0.1:",
        "[::1]",
        "[::1]:",
        "[::1]80",
        "[::1] :80",
        "[::1]: 80",
        "::1:80",
        "::1",
        "[127.0.0.1]:80",
        "127.0.0.1]:80",
        "[127.0.0.1:80",
        "[::1:80",
        "::1]:80",
        "[[::1]]:80",
        "[::1]]:80",
        "x[::1]:80",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:+80",
        "127.0.0.1: 80",
        "127.0.0.1:80 ",
        " 127.0.0.1:80",
        "127.0.0.1:99999",
        "127.0.0.1:100000",
        "127.0.0.1:000080",
        "127.0.0.1:0x50",
        "127.0.0.1:8a",
        "127.0.0.1:http",
        "127.0.0.1:4294967376",
        "127.0.0.1:18446744073709551696",
        "127.0.0.1:80:80",
        "127.0.0.1::80",
        "localhost:80",
        "example.org:443",
        "*:80",
        "127.0.0.1:8\n",
        "[::1]:65536",
        "[::1]:-1",
        "[::1]:80]",
        "[fe80::1%]:80",
        "[fe80::1%nosuch0]:80",
        "[fe80::1]%1:80",
        "fe80::1%1:80",
        "127.0.0.1%1:80",
        "[::ffff:1.2.3.4:80",
        "127.0.0.1:80\0"s,
        "127.0.0.1\0:80"s,
        "127.0.0.1:\0"s,
        "127.0.0.1:8\0"
        "0"s,
        "\0"s,
        "[::1\0]:80"s,
        "[::1]\0:80"s,
        "[::1]:80\0"s,
    };
    table.push_back("[fe80::1%" + some_interface() + "\0]:80"s);
    table.push_back("127.0.0.1:" + std::string(100, '0'));
    std::string brackets(5000, '[');
    brackets += "::1]:80";
    table.push_back(brackets);
    table.emplace_back(1 << 20, ':');
    table.push_back("[" + std::string(1 << 20, ':') + "]:80");
    for (const std::string& text : table) {
        CAPTURE(text.substr(0, 100));
        const auto tried = endpoint::try_parse(text);
        CHECK_FALSE(tried);
        CHECK(tried.error() == std::errc::invalid_argument);
        bool refused = false;
        try {
            static_cast<void>(endpoint::parse(text));
        } catch (const std::system_error& e) {
            refused = e.code() == std::errc::invalid_argument;
        }
        CHECK(refused);
    }
}

TEST_CASE("endpoint: every port round-trips") {
    for (int port = 0; port <= 65535; ++port) {
        const endpoint at("127.0.0.1", static_cast<std::uint16_t>(port));
        const auto again = endpoint::try_parse(at.to_string());
        if (!again || *again != at) FAIL_CHECK(at.to_string());
    }
}

}  // namespace
