// Shows JavaScript's promise chain, fetch().then().then().catch(): a function that awaits, and a try.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

struct user {
    int id;
    const char* name;
};
struct user_data {
    user of;
    std::vector<std::string> posts;
};

rondo::task<std::string> fetch(std::string url) {
    co_await rondo::sleep_for(1ms);
    if (url == "/api/users/1") co_return "Alice";
    if (url == "/api/posts?author=1") co_return "hello,again";
    throw std::runtime_error(url + ": 404");
}

rondo::task<user> fetch_user(int id) {
    const std::string name = co_await fetch("/api/users/" + std::to_string(id));
    co_return user{id, name == "Alice" ? "Alice" : "someone"};
}

rondo::task<std::vector<std::string>> fetch_posts(int author) {
    const std::string text = co_await fetch("/api/posts?author=" + std::to_string(author));
    std::vector<std::string> posts;
    const std::size_t comma = text.find(',');
    posts.push_back(text.substr(0, comma));
    posts.push_back(text.substr(comma + 1));
    co_return posts;
}

// In the chain, `user` is out of scope where it is needed last. Here it is a variable.
rondo::task<user_data> fetch_user_data(int id) {
    try {
        const user found = co_await fetch_user(id);
        auto posts = co_await fetch_posts(found.id);
        co_return user_data{found, std::move(posts)};
    } catch (const std::exception& error) {
        std::printf("Error: %s\n", error.what());
        throw;
    }
}

rondo::task<> app() {
    const user_data data = co_await fetch_user_data(1);
    std::printf("%s: %s, %s\n", data.of.name, data.posts[0].c_str(), data.posts[1].c_str());
    try {
        co_await fetch_user_data(2);
    } catch (const std::exception& error) {
        std::printf("caught again: %s\n", error.what());
    }

    // Promise.all(userIds.map(fetchUserDataAsync))
    const std::vector<int> ids = {1, 1, 1};
    const auto all = co_await rondo::map_concurrent(ids, ids.size(), fetch_user_data);
    std::printf("%zu users at once\n", all.size());
}

int main() { return rondo::run_main(app); }
