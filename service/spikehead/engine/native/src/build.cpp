#include "build.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace spikehead {
namespace {

constexpr std::int64_t kExact = std::int64_t{1} << 24;  // whole numbers up to here are exact in the float32 graph

void expect(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("expected " + what);
}

Interval bounded(const Interval& interval, const std::string& name) {
  expect(interval.low > -kExact && interval.high < kExact, "all values of " + name + " below 2**24");
  return interval;
}

// A row of values, padded, in the accumulator type of its layer.
Values padded_row(const std::vector<std::int32_t>& values, int padded, std::int32_t rest, bool wide) {
  Values row;
  if (wide) {
    row.wide.assign(padded, rest);
    for (std::size_t i = 0; i < values.size(); ++i) row.wide[i] = values[i];
  } else {
    constexpr std::int32_t most = 32767;
    row.narrow.assign(padded, static_cast<std::int16_t>(std::min(rest, most)));
    for (std::size_t i = 0; i < values.size(); ++i) {
      row.narrow[i] = static_cast<std::int16_t>(std::clamp(values[i], -most, most));
    }
  }
  return row;
}

// Synapses with the range of what they add, where no input is larger than `peak`.
Synapses synapses_of(const SynapseArrays& arrays, std::int64_t peak, const std::string& name) {
  const int taps = arrays.kernel * arrays.kernel;
  expect(arrays.inputs > 0 && arrays.outputs > 0 && arrays.kernel % 2 == 1, "weights of " + name);
  expect(arrays.kernel <= 7 && arrays.stride >= 1, "a window of at most 7 of " + name);
  expect(arrays.weight.size() == static_cast<std::size_t>(taps) * arrays.inputs * arrays.outputs,
         "as many weights of " + name + " as its shape says");
  expect(arrays.bias.size() == static_cast<std::size_t>(arrays.outputs), "a bias for each output of " + name);
  Synapses result;
  result.kernel = arrays.kernel;
  result.stride = arrays.stride;
  result.inputs = arrays.inputs;
  result.outputs = arrays.outputs;
  result.padded = round_up(arrays.outputs, kLanePadding);
  result.weight = arrays.weight;
  result.bias = arrays.bias;
  result.current.resize(arrays.outputs);
  result.parts.resize(arrays.outputs);
  for (int output = 0; output < arrays.outputs; ++output) {
    Interval& current = result.current[output];
    current = {arrays.bias[output], arrays.bias[output]};
    for (int row = 0; row < taps * arrays.inputs; ++row) {
      const std::int64_t w = arrays.weight[static_cast<std::size_t>(row) * arrays.outputs + output];
      (w < 0 ? current.low : current.high) += w * peak;
    }
    bounded(current, name);
    const std::int64_t bias = arrays.bias[output];
    result.parts[output] = bounded(
        {current.low - std::max<std::int64_t>(bias, 0), current.high - std::min<std::int64_t>(bias, 0)}, name);
  }
  return result;
}

void lay_out(Synapses& synapses, bool wide) {
  const std::size_t rows = static_cast<std::size_t>(synapses.kernel) * synapses.kernel * synapses.inputs;
  synapses.start = padded_row(synapses.bias, synapses.padded, 0, wide);
  if (wide) synapses.rows.wide.assign(rows * synapses.padded, 0);
  else synapses.rows.narrow.assign(rows * synapses.padded, 0);
  const std::size_t taps = rows / synapses.inputs;
  for (std::size_t row = 0; row < rows; ++row) {  // [tap][input], as they stand in the graph
    const std::size_t to = row % synapses.inputs * taps + row / synapses.inputs;
    for (int output = 0; output < synapses.outputs; ++output) {
      const std::int8_t w = synapses.weight[row * synapses.outputs + output];
      const std::size_t place = to * synapses.padded + output;
      if (wide) synapses.rows.wide[place] = w;
      else synapses.rows.narrow[place] = w;
    }
  }
  synapses.weight.clear();
}

class Builder {
 public:
  Builder(const NetworkArrays& arrays, Network& network) : arrays_(arrays), network_(network) {}

  // A layer of LIF neurons with that range of currents, and of parts of their sums, for each channel; its index.
  int layer(int positions, const std::vector<std::int32_t>& v_threshold, const std::vector<Interval>& current,
            const std::vector<Interval>& parts) {
    const int index = static_cast<int>(network_.layers.size());
    expect(index < static_cast<int>(arrays_.names.size()), "a name for each layer");
    Neurons neurons;
    neurons.name = arrays_.names[index];
    neurons.positions = positions;
    neurons.channels = static_cast<int>(current.size());
    neurons.padded = round_up(neurons.channels, kLanePadding);
    neurons.words = round_up(neurons.padded, kWordBits) / kWordBits;
    neurons.v_threshold = v_threshold;
    neurons.fan_out = arrays_.fan_out[index];
    expect(v_threshold.size() == current.size(), "a threshold for each channel of " + neurons.name);
    expect(neurons.fan_out.size() == static_cast<std::size_t>(positions), "the fan-out of " + neurons.name);
    if (index >= kMapLayers) {
      for (const std::int32_t synapses : neurons.fan_out) {
        expect(synapses == neurons.fan_out[0], "the same fan-out of every token of " + neurons.name);
      }
    }
    for (std::size_t channel = 0; channel < current.size(); ++channel) {
      neurons.bound.include(parts[channel]);
      neurons.bound.include(potential_range(current[channel], v_threshold[channel], network_.shift_membrane));
    }
    bounded(neurons.bound, neurons.name);
    neurons.wide = !neurons.bound.fits16();
    network_.layers.push_back(std::move(neurons));
    return index;
  }

  void fix(int index, bool wide) {
    Neurons& neurons = network_.layers[index];
    neurons.wide = wide;
    // Padding never fires: its potential stays 0.
    neurons.threshold = padded_row(neurons.v_threshold, neurons.padded, 1, wide);
  }

  // Takes their synapses from neurons that no input can make fire. Their potentials are nobody's business, and often
  // far from all others: without them most layers fit into 16 bits.
  void leave_out_silent(Synapses& synapses, const std::vector<std::int32_t>& v_threshold) const {
    for (std::size_t output = 0; output < v_threshold.size() && output < synapses.current.size(); ++output) {
      const Interval range = potential_range(synapses.current[output], v_threshold[output], network_.shift_membrane);
      if (range.high >= v_threshold[output]) continue;
      for (std::size_t i = output; i < synapses.weight.size(); i += synapses.current.size()) synapses.weight[i] = 0;
      synapses.bias[output] = 0;
      synapses.current[output] = synapses.parts[output] = {};
    }
  }

  // Synapses and the layer that they alone drive.
  int driven(Synapses& synapses, int positions, const std::vector<std::int32_t>& v_threshold) {
    leave_out_silent(synapses, v_threshold);
    const int index = layer(positions, v_threshold, synapses.current, synapses.parts);
    const bool wide = network_.layers[index].wide;
    fix(index, wide);
    lay_out(synapses, wide);
    return index;
  }

 private:
  const NetworkArrays& arrays_;
  Network& network_;
};

}  // namespace

namespace {

// What a step can add to the residual potential includes what tells a token where it is.
void widen_by_position(Network& network, const std::vector<std::int32_t>& position) {
  const std::size_t channels = network.channels;
  expect(position.empty() || position.size() == network.tokens * channels, "a position for each token and channel");
  if (position.empty()) return;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    Interval added{position[channel], position[channel]};
    for (std::size_t i = channel; i < position.size(); i += channels) added.include({position[i], position[i]});
    network.stem3.current[channel] = bounded(network.stem3.current[channel] + added, "stem3");
    const Interval or_none{std::min<std::int64_t>(added.low, 0), std::max<std::int64_t>(added.high, 0)};
    network.stem3.parts[channel] = bounded(network.stem3.parts[channel] + or_none, "stem3");
  }
}

// Half of the channels that a token reads are its own, an eighth come from each of the tokens around it.
void mask_neighbours(Network& network) {
  const int words = round_up(network.channels, kWordBits) / kWordBits, share = network.channels / 8;
  network.seen_from.assign(static_cast<std::size_t>(kSides) * words, 0);
  for (int channel = 0; channel < network.channels; ++channel) {
    const int after_own = channel - (network.channels - 4 * share);
    const int side = after_own < 0 ? 0 : 1 + after_own / share;
    network.seen_from[side * words + channel / kWordBits] |= std::uint64_t{1} << channel % kWordBits;
  }
}

// Where the residual potential of each token starts.
void lay_out_places(Network& network, const std::vector<std::int32_t>& position) {
  const Synapses& stem3 = network.stem3;
  const std::size_t padded = stem3.padded, channels = network.channels;
  auto fill = [&](auto& place) {
    place.assign(network.tokens * padded, 0);
    for (std::size_t i = 0; i < network.tokens * channels; ++i) {
      const std::int32_t start = stem3.bias[i % channels] + (position.empty() ? 0 : position[i]);
      place[i / channels * padded + i % channels] = static_cast<std::decay_t<decltype(place[0])>>(start);
    }
  };
  if (network.wide_stream) fill(network.place.wide);
  else fill(network.place.narrow);
}

// Stem, blocks and tokens.
void add_hidden_layers(const NetworkArrays& arrays, Network& network, std::int64_t largest_trace) {
  Builder builder(arrays, network);

  // Stem.
  network.stem1 = synapses_of(arrays.stem1, largest_trace, "stem1");
  network.stem2 = synapses_of(arrays.stem2, 1, "stem2");
  network.stem3 = synapses_of(arrays.stem3, 1, "stem3");
  expect(arrays.stem1.inputs == 1 && arrays.stem2.inputs == arrays.stem1.outputs &&
             arrays.stem3.inputs == arrays.stem2.outputs,
         "each convolution of the stem to take what the one before gives");
  expect(arrays.stem1.stride == 2 && arrays.stem2.stride == 1 && arrays.stem3.stride == 2, "strides 2, 1, 2 of the stem");
  expect(arrays.stem1.kernel == 5 && arrays.stem2.kernel == 3 && arrays.stem3.kernel == 3, "windows 5, 3, 3 of the stem");
  const int half = kSide / 2, quarter = kSide / 4;
  network.tokens = quarter * quarter;
  network.channels = arrays.stem3.outputs;
  expect(arrays.heads >= 0 && (arrays.heads == 0 || network.channels % arrays.heads == 0),
         "heads that divide the channels");
  for (int channel = 0; arrays.heads && channel < network.channels; ++channel) {
    const int width = network.channels / arrays.heads;
    network.head_offset.push_back(channel / width * width);
  }
  builder.driven(network.stem1, half * half, arrays.stem1_threshold);
  builder.driven(network.stem2, half * half, arrays.stem2_threshold);

  // The residual potential: everything that is added to it has one type. Any part of the sum has to fit as well.
  widen_by_position(network, arrays.position);
  if (arrays.neighbours) mask_neighbours(network);
  std::vector<Interval> stream(network.channels);
  auto add = [&](const Synapses& synapses) {
    expect(synapses.outputs == network.channels, "residual synapses onto every channel");
    for (int channel = 0; channel < network.channels; ++channel) {
      stream[channel] = stream[channel] + synapses.parts[channel];
    }
  };
  add(network.stem3);
  for (const BlockArrays& from : arrays.blocks) {
    Block block;
    block.attends = from.attends;
    if (block.attends) {
      expect(arrays.heads > 0, "heads where a block attends");
      block.query = synapses_of(from.query, 1, "query");
      block.key = synapses_of(from.key, 1, "key");
      block.value = synapses_of(from.value, 1, "value");
      block.projection = synapses_of(from.projection, 1, "projection");
      for (const Synapses* role : {&block.query, &block.key, &block.value, &block.projection}) {
        expect(role->inputs == network.channels && role->outputs == network.channels && role->kernel == 1,
               "attention from all channels to all channels");
      }
      add(block.projection);
    }
    block.expand = synapses_of(from.expand, 1, "expand");
    block.contract = synapses_of(from.contract, 1, "contract");
    expect(block.expand.inputs == network.channels && block.contract.inputs == block.expand.outputs,
           "an MLP from the channels through its hidden layer");
    add(block.contract);
    network.blocks.push_back(std::move(block));
  }

  std::vector<int> residual_layers;
  auto residual = [&] {
    residual_layers.push_back(builder.layer(network.tokens, arrays.residual_threshold, stream, stream));
    return residual_layers.back();
  };
  for (std::size_t i = 0; i < network.blocks.size(); ++i) {
    Block& block = network.blocks[i];
    const BlockArrays& from = arrays.blocks[i];
    if (block.attends) {
      block.attention_in_layer = residual();
      block.query_layer = builder.driven(block.query, network.tokens, from.query_threshold);
      block.key_layer = builder.driven(block.key, network.tokens, from.key_threshold);
      block.value_layer = builder.driven(block.value, network.tokens, from.value_threshold);
      const std::int64_t most = std::int64_t{network.tokens} * (network.channels / network.heads);
      const std::vector<Interval> counts(network.channels, Interval{0, most});
      block.attention_layer = builder.layer(network.tokens, from.attention_threshold, counts, counts);
      builder.fix(block.attention_layer, network.layers[block.attention_layer].wide);
    }
    block.mlp_in_layer = residual();
    block.mlp_hidden_layer = builder.driven(block.expand, network.tokens, from.hidden_threshold);
  }
  network.tokens_layer = residual();
  expect(network.layers.size() == arrays.names.size(), "as many layers as names");
  for (const int index : residual_layers) {
    network.wide_stream = network.wide_stream || network.layers[index].wide;
  }
  for (const int index : residual_layers) builder.fix(index, network.wide_stream);
  lay_out(network.stem3, network.wide_stream);
  lay_out_places(network, arrays.position);
  for (Block& block : network.blocks) {
    if (block.attends) lay_out(block.projection, network.wide_stream);
    lay_out(block.contract, network.wide_stream);
  }
}

// Output neurons that read so many features, each at most `largest_input`, and filter what drives them or not.
void add_output_neurons(const NetworkArrays& arrays, Network& network, std::size_t features, std::int64_t largest_input,
                        int shift_filter) {
  expect(arrays.readout.size() == features * kClasses, "readout weights from every feature to 10 classes");
  expect(arrays.feedback.size() == kClasses && arrays.gamma.size() == kClasses, "10 output neurons");
  expect(arrays.sigmoid.size() % 2 == 1, "a sigmoid table with a middle");
  network.readout.assign(features * kClassLanes, 0);
  std::array<std::int64_t, kClasses> reach{};
  for (std::size_t feature = 0; feature < features; ++feature) {
    for (int k = 0; k < kClasses; ++k) {
      const std::int8_t w = arrays.readout[feature * kClasses + k];
      network.readout[feature * kClassLanes + k] = w;
      reach[k] += std::abs(w);
    }
  }
  for (int k = 0; k < kClasses; ++k) {
    network.feedback[k] = arrays.feedback[k];
    network.gamma[k] = arrays.gamma[k];
    const std::int64_t trace = std::int64_t{arrays.unit_feedback} << arrays.shift_feedback;
    const std::int64_t most = ((reach[k] * largest_input) << shift_filter) + std::abs(std::int64_t{arrays.gamma[k]}) +
                              std::abs(std::int64_t{arrays.feedback[k]}) * trace;
    bounded({-most, most}, "the potential");
  }
  expect(arrays.shift_sigmoid >= 0 && arrays.shift_sigmoid <= 12, "a shift of the sigmoid table from 0 to 12");
  network.shift_sigmoid = arrays.shift_sigmoid;
  network.sigmoid.assign(arrays.sigmoid.size(), 0.0f);
  for (std::size_t i = 0; i < arrays.sigmoid.size(); ++i) network.sigmoid[i] = arrays.sigmoid[i];
}

}  // namespace

Network build(const NetworkArrays& arrays) {
  Network network;
  for (const int shift : {arrays.shift_input, arrays.shift_membrane, arrays.shift_readout, arrays.shift_feedback}) {
    expect(shift >= 1 && shift <= 12, "shifts from 1 to 12");
  }
  expect(arrays.rate_slope >= 1 && arrays.rate_slope <= 16, "a slope of the tuning curve from 1 to 16");
  expect(arrays.reset_interval >= 0, "a reset interval of at least 0");
  expect(arrays.unit_input > 0 && arrays.unit_input <= 4096, "an input unit from 1 to 4096");
  expect(arrays.unit_feedback > 0 && arrays.unit_feedback <= 4096, "a feedback unit from 1 to 4096");
  expect(arrays.fan_out.size() == arrays.names.size(), "a fan-out for each layer");
  expect(arrays.input_fan_out.size() == kPixels, "a fan-out for each pixel");
  network.heads = arrays.heads;
  network.rate_slope = arrays.rate_slope;
  network.reset_interval = arrays.reset_interval;
  network.shift_input = arrays.shift_input;
  network.unit_input = arrays.unit_input;
  network.shift_membrane = arrays.shift_membrane;
  network.shift_readout = arrays.shift_readout;
  network.shift_feedback = arrays.shift_feedback;
  network.unit_feedback = arrays.unit_feedback;
  network.input_fan_out = arrays.input_fan_out;

  const std::int64_t largest_trace = std::int64_t{arrays.unit_input} << arrays.shift_input;
  if (arrays.names.empty()) {
    add_output_neurons(arrays, network, kPixels, largest_trace, 0);
  } else {
    add_hidden_layers(arrays, network, largest_trace);
    const std::size_t features = static_cast<std::size_t>(network.tokens) * network.channels;
    add_output_neurons(arrays, network, features, 1, arrays.shift_readout);
  }
  return network;
}

}  // namespace spikehead
