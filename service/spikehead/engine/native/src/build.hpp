// From arrays of whole numbers to a Network: layout, bounds, accumulator types.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "network.hpp"

namespace spikehead {

// One set of synapses as it stands in the graph.
struct SynapseArrays {
  int kernel = 1, stride = 1, inputs = 0, outputs = 0;
  std::vector<std::int8_t> weight;   // [tap][input][output]
  std::vector<std::int32_t> bias;    // [output]
};

struct BlockArrays {
  bool attends = false;                                           // has attention; else it is an MLP alone
  SynapseArrays query, key, value, projection, expand, contract;  // the first four: with attention alone
  std::vector<std::int32_t> query_threshold, key_threshold, value_threshold, attention_threshold, hidden_threshold;
};

struct NetworkArrays {
  int heads = 0;  // of each block that attends; 0: none does
  int rate_slope = 1;  // of the encoder's tuning curve
  int reset_interval = 0;  // steps after which the state begins anew; 0: never
  int shift_input = 0, unit_input = 0, shift_membrane = 1, shift_readout = 1, shift_feedback = 0, unit_feedback = 0;
  SynapseArrays stem1, stem2, stem3;
  std::vector<std::int32_t> position;  // [token][channel] what tells a token where it is; empty: nothing does
  bool neighbours = false;             // tokens see those around them
  std::vector<std::int32_t> stem1_threshold, stem2_threshold, residual_threshold;
  std::vector<BlockArrays> blocks;
  std::vector<std::int8_t> readout;  // [token, channel][class]; without hidden layers [pixel][class]
  std::vector<std::int32_t> feedback, gamma;
  std::vector<float> sigmoid;
  int shift_sigmoid = 0;
  std::vector<std::string> names;                    // hidden layers, in order; none: output neurons on filtered pixels
  std::vector<std::vector<std::int32_t>> fan_out;    // [hidden layer][position]
  std::vector<std::int32_t> input_fan_out;           // [pixel]
};

// Throws std::invalid_argument where sizes do not fit each other or a value could leave 2^24.
Network build(const NetworkArrays& arrays);

}  // namespace spikehead
