// From arrays of whole numbers to a Network: layout, bounds, accumulator types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "network.hpp"

namespace spikehead {

// An array that the export wrote, or a number or a fan-out of the card. Its values belong to the caller.
struct Array {
  std::vector<std::size_t> shape;
  std::variant<std::span<const std::int8_t>, std::span<const std::int32_t>, std::span<const float>> values;
};

using Arrays = std::map<std::string, Array>;  // by name

// Throws std::invalid_argument if an array is missing, has another type or size than the network needs, or is not
// known here, or if a value could leave 2^24.
Network build(const Arrays& arrays);

}  // namespace spikehead
