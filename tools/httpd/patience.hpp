// SPDX-License-Identifier: MIT
/// @file
/// How long to look for work before going to sleep.
#pragma once

#include <algorithm>

namespace httpd {

/// Sleeping and being woken costs a system call each time.  Looking at the
/// mapped ring costs none; so a thread that has found its ring empty yields the
/// CPU (to the clients, say) and looks again, as long as that tends to pay.
///
/// Adapts: looking again that was not in vain doubles the number of tries,
/// having gone to sleep takes a quarter away.  An idle thread sleeps at once
/// but for a few tries.
class patience {
public:
    /// Times to look again before sleeping.
    [[nodiscard]] unsigned tries() const noexcept { return tries_; }

    /// Something came while we looked.
    void paid() noexcept { tries_ = std::min(tries_ * 2, most); }

    /// Nothing came.
    void in_vain() noexcept { tries_ = std::max(tries_ - tries_ / 4, least); }

private:
    static constexpr unsigned least = 4;
    static constexpr unsigned most = 64;

    unsigned tries_ = least;
};

} // namespace httpd
