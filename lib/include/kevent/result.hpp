// SPDX-License-Identifier: MIT
/// @file
/// What a function that can fail returns.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace kevent {

/// The error_code of an errno (positive).
inline std::error_code errno_code(int number) noexcept {
    return {number, std::generic_category()};
}

namespace detail {
[[noreturn]] inline void fail(const std::error_code &error) {
#if defined(__cpp_exceptions)
    throw std::system_error(error);
#else
    static_cast<void>(error);
    std::abort();
#endif
}
} // namespace detail

/// A value, or the errno that stood in its way.
///
/// Every function of this library that can fail is noexcept and returns a
/// result.  value() is the throwing way to the same call:
/// `auto id = queue.add(source).value();` throws std::system_error with the
/// errno in std::generic_category.  In a program built with -fno-exceptions
/// value() of an error aborts; test the result first and use operator*.
///
/// A result is as thread-safe as T.  T is default constructible.
template <class T>
class [[nodiscard]] result {
public:
    result(T value) noexcept : value_(std::move(value)) {}
    result(std::error_code error) noexcept : error_(error) {}

    /// Is there a value?
    explicit operator bool() const noexcept { return !error_; }

    /// The error; no error when there is a value.
    [[nodiscard]] std::error_code error() const noexcept { return error_; }

    /// The value; only when there is one.
    T &operator*() noexcept { return value_; }
    const T &operator*() const noexcept { return value_; }
    T *operator->() noexcept { return &value_; }
    const T *operator->() const noexcept { return &value_; }

    /// The value, or std::system_error.
    T &value() & {
        if (error_)
            detail::fail(error_);
        return value_;
    }
    T value() && {
        if (error_)
            detail::fail(error_);
        return std::move(value_);
    }

private:
    T value_{};
    std::error_code error_;
};

/// Success, or the errno that stood in its way.
template <>
class [[nodiscard]] result<void> {
public:
    result() noexcept = default;
    result(std::error_code error) noexcept : error_(error) {}

    explicit operator bool() const noexcept { return !error_; }
    [[nodiscard]] std::error_code error() const noexcept { return error_; }

    /// Returns, or throws std::system_error.
    void value() const {
        if (error_)
            detail::fail(error_);
    }

private:
    std::error_code error_;
};

} // namespace kevent
