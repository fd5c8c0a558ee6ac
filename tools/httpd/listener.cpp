// SPDX-License-Identifier: MIT
#include "listener.hpp"

#include <cerrno>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <system_error>

namespace httpd {

namespace {
[[noreturn]] void fail(const std::string &what) {
    throw std::system_error(errno, std::generic_category(), what);
}

struct free_addresses {
    void operator()(addrinfo *list) const { ::freeaddrinfo(list); }
};
using addresses = std::unique_ptr<addrinfo, free_addresses>;

addresses resolve(const std::string &address, unsigned port) {
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo *found = nullptr;
    const int error = ::getaddrinfo(
        address.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (error != 0)
        throw std::system_error(EINVAL, std::generic_category(),
                                address + ": " + ::gai_strerror(error));
    return addresses(found);
}

void set(const descriptor &socket, int level, int option) {
    const int on = 1;
    if (::setsockopt(socket.get(), level, option, &on, sizeof(on)) != 0)
        fail("setsockopt");
}
} // namespace

descriptor listen_on(const std::string &address, unsigned port) {
    const auto found = resolve(address, port);
    descriptor made(::socket(found->ai_family,
                             SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!made)
        fail("socket");
    set(made, SOL_SOCKET, SO_REUSEADDR);
    set(made, SOL_SOCKET, SO_REUSEPORT);
    set(made, IPPROTO_TCP, TCP_NODELAY); // what it accepts inherits it
    if (::bind(made.get(), found->ai_addr, found->ai_addrlen) != 0 ||
        ::listen(made.get(), SOMAXCONN) != 0)
        fail(address + " port " + std::to_string(port));
    return made;
}

unsigned port_of(const descriptor &socket) {
    sockaddr_storage name{};
    socklen_t length = sizeof(name);
    if (::getsockname(socket.get(), reinterpret_cast<sockaddr *>(&name),
                      &length) != 0)
        fail("getsockname");
    if (name.ss_family == AF_INET6)
        return ntohs(reinterpret_cast<sockaddr_in6 &>(name).sin6_port);
    return ntohs(reinterpret_cast<sockaddr_in &>(name).sin_port);
}

descriptor accept_from(const descriptor &socket) noexcept {
    return descriptor(::accept4(socket.get(), nullptr, nullptr,
                                SOCK_NONBLOCK | SOCK_CLOEXEC));
}

bool exhausted(int error) noexcept {
    return error == EMFILE || error == ENFILE || error == ENOBUFS ||
           error == ENOMEM;
}

} // namespace httpd
