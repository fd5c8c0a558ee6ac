// SPDX-License-Identifier: MIT
/// @file
/// Draws that come out the same with every standard library.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace balance {

using generator = std::mt19937_64;

/// Uniform in (0, 1].
inline double unit(generator &random) {
    return static_cast<double>((random() >> 11) + 1) * 0x1p-53;
}

/// Exponential, mean 1.
inline double exponential(generator &random) {
    return -std::log(unit(random));
}

/// 0 to @p count - 1; uniform, or the k-th (from 1) with a weight of 1/k.
class ranks {
public:
    ranks(unsigned count, bool zipf) : sums_(count) {
        double sum = 0;
        for (unsigned i = 0; i < count; i++)
            sums_[i] = sum += zipf ? 1.0 / (i + 1) : 1.0;
    }
    unsigned operator()(generator &random) const {
        const auto drawn = unit(random) * sums_.back();
        return static_cast<unsigned>(
            std::lower_bound(sums_.begin(), sums_.end() - 1, drawn) -
            sums_.begin());
    }
    /// The share of one of them.
    [[nodiscard]] double share(unsigned rank) const {
        return (sums_[rank] - (rank == 0 ? 0 : sums_[rank - 1])) / sums_.back();
    }
    [[nodiscard]] unsigned size() const {
        return static_cast<unsigned>(sums_.size());
    }

private:
    std::vector<double> sums_;
};

} // namespace balance
