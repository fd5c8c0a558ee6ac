// SPDX-License-Identifier: MIT
/// @file
/// Listening sockets.
#pragma once

#include "descriptor.hpp"

#include <string>

namespace httpd {

/// A nonblocking listening socket on a numeric address; with port 0 the system
/// chooses.  Several may listen on one address: the system spreads connections
/// over them.  Throws std::system_error.
descriptor listen_on(const std::string &address, unsigned port);

/// The port that a socket is bound to.
unsigned port_of(const descriptor &socket);

/// Accepts a connection, nonblocking.  None, with errno, if there is none.
descriptor accept_from(const descriptor &socket) noexcept;

/// Is it for want of descriptors or memory that accept_from() failed?
bool exhausted(int error) noexcept;

} // namespace httpd
