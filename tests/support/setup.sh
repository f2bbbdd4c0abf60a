# Sourced by samples/run and tests/run: finds or installs what the build needs, configures, builds.
# shellcheck shell=bash

say() { printf '\n==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Whether the compiler $1 finds all the headers that follow.
finds_headers() {
    local compiler=$1 header
    shift
    for header; do
        printf '#if !__has_include(<%s>)\n#error missing\n#endif\n' "$header"
    done | "$compiler" -E -x c++ - >/dev/null 2>&1
}

has_command() { command -v "$1" >/dev/null; }

has_sanitizers() {
    has_command "$1" && echo 'int main() {}' |
        "$1" -fsanitize=address,undefined -x c++ - -o /dev/null 2>/dev/null
}

# Names the Debian packages that are missing, by trying what they are for.
missing_packages() {
    local package
    for package; do
        case $package in
        g++) has_command g++ ;;
        meson | cmake | pkg-config | python3) has_command "$package" ;;
        ninja-build) has_command ninja ;;
        liburing-dev) finds_headers g++ liburing.h ;;
        libasio-dev) finds_headers g++ asio.hpp ;;
        doctest-dev) finds_headers g++ doctest/doctest.h ;;
        libspdlog-dev) finds_headers g++ spdlog/spdlog.h ;;
        nlohmann-json3-dev) finds_headers g++ nlohmann/json.hpp ;;
        clang-19) has_command clang++-19 ;;
        libclang-rt-19-dev) has_sanitizers clang++-19 ;;
        clang-format-19) has_command clang-format-19 ;;
        gdb | socat | strace) has_command "$package" ;;
        netcat-openbsd) [[ $(nc -h 2>&1) == *OpenBSD* ]] ;;
        iproute2) has_command ip && has_command ss ;;
        nftables) has_command nft ;;
        libgtest-dev) finds_headers g++ gtest/gtest.h ;;
        catch2) finds_headers g++ catch2/catch.hpp || finds_headers g++ catch2/catch_all.hpp ;;
        chromium) has_command chromium || has_command google-chrome || has_command chromium-browser ;;
        *) die "no rule tells whether $package is there" ;;
        esac || echo "$package"
    done
}

# Installs those of the packages that are missing; silent if none is.
need_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0

    local as_root=()
    if ((EUID != 0)); then
        as_root=(sudo)
    fi
    if ! has_command apt-get || ! { ((EUID == 0)) || has_command sudo; }; then
        echo "Needed, but not found here (by their Debian names):" >&2
        printf '    %s\n' "${missing[@]}" >&2
        echo "Only apt is known to this script, as root or with sudo; please install them." >&2
        exit 1
    fi

    say "installing ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=120)
    "${as_root[@]}" "${apt[@]}" update
    "${as_root[@]}" "${apt[@]}" install --no-install-recommends "${missing[@]}"
    mapfile -t missing < <(missing_packages "$@")
    if ((${#missing[@]})); then
        die "still missing after the installation: ${missing[*]}"
    fi
}

build_packages=(
    g++ meson ninja-build cmake pkg-config python3
    liburing-dev libasio-dev doctest-dev libspdlog-dev nlohmann-json3-dev
)
clang_packages=(clang-19 libclang-rt-19-dev)
test_packages=(gdb clang-format-19 libgtest-dev catch2 socat netcat-openbsd)
fault_packages=(strace iproute2 nftables)
page_packages=(chromium)

# configure DIR COMPILER OPTIONS...: a new or an existing build directory.
configure() {
    local dir=$1 compiler=$2
    shift 2
    # Meson would keep old options that are no longer named, so another set starts anew.
    if [[ -f $dir/build.ninja && -f $dir/.options && $(<"$dir/.options") == "$compiler $*" ]]; then
        return 0
    fi
    rm -rf "$dir"
    CXX=$compiler meson setup "$dir" "$@" || return
    echo "$compiler $*" >"$dir/.options"
}

# build DIR TARGETS...: ninja, with one line in twenty where the output is no terminal.
build() {
    local dir=$1
    shift
    if [[ -t 1 ]]; then
        ninja -C "$dir" "$@"
        return
    fi
    local line step=0
    NINJA_STATUS='[%f/%t] ' ninja -C "$dir" "$@" | while IFS= read -r line; do
        if [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]]; then
            ((step++ % 20 == 0 || BASH_REMATCH[1] == BASH_REMATCH[2])) || continue
            line="$BASH_REMATCH ${line#*] }"
        fi
        printf '%s\n' "${line:0:1000}"
    done
    return "${PIPESTATUS[0]}"
}
