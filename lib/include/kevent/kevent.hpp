// SPDX-License-Identifier: MIT
/// @file
/// All of the library.
#pragma once

#include <kevent/async.hpp>
#include <kevent/balancer.hpp>
#include <kevent/collector.hpp>
#include <kevent/kernel.hpp>
#include <kevent/loop.hpp>
#include <kevent/operation.hpp>
#include <kevent/pace.hpp>
#include <kevent/queue.hpp>
#include <kevent/reclaimer.hpp>
#include <kevent/request.hpp>
#include <kevent/result.hpp>
#include <kevent/ring_view.hpp>
#include <kevent/source.hpp>
#include <kevent/task.hpp>
