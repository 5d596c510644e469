// Answers as JSON, as `spikehead.inference.simulator.Simulator.describe` words them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "run.hpp"

namespace spikehead {

// Parts that are the same in all answers of a request, as JSON.
struct Wording {
  std::string model;                // fields from "model" to "engine", with commas
  std::vector<std::string> layers;  // names of the hidden layers, quoted
  std::string max_steps;            // a number
  std::string confidence;           // a number
  std::string encoder;              // quoted
};

struct Timings {
  double decode_ms = 0.0, encode_ms = 0.0, simulate_ms = 0.0;
};

// The class of the highest probability; the lowest one wins a tie.
int prediction(const Outcome& outcome);

std::string answer(const Wording& wording, const std::string& id, std::uint64_t seed, const Outcome& outcome,
                   const Timings& timings);

}  // namespace spikehead
