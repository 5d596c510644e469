#include "build.hpp"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <utility>

namespace spikehead {
namespace {

constexpr std::int64_t kExact = std::int64_t{1} << 24;  // whole numbers up to here are exact in the float32 graph
constexpr int kMostChannels = 1 << 16;
constexpr int kMostFanOut = 1 << 20;  // all pixels together stay within 32 bits

void expect(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("expected " + what);
}

std::string text(const std::vector<std::size_t>& shape) {
  std::string result = "[";
  for (const std::size_t size : shape) result += (result.size() > 1 ? ", " : "") + std::to_string(size);
  return result + "]";
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

// Rows of weights, and the bias that a sum starts from, in the accumulator type of the layer that they drive.
void lay_out(Synapses& synapses, bool wide) {
  const std::size_t rows = synapses.weight.size() / synapses.outputs;
  synapses.start = padded_row(synapses.bias, synapses.padded, 0, wide);
  auto fill = [&](auto& values) {
    values.assign(rows * synapses.padded, 0);
    for (std::size_t i = 0; i < synapses.weight.size(); ++i) {
      values[i / synapses.outputs * synapses.padded + i % synapses.outputs] = synapses.weight[i];
    }
  };
  if (wide) fill(synapses.rows.wide);
  else fill(synapses.rows.narrow);
  synapses.weight.clear();
}

// Builds a network from arrays. Checks the size of everything that it reads.
class Builder {
 public:
  explicit Builder(const Arrays& arrays) : arrays_(arrays) {
    for (const auto& [name, array] : arrays) unread_.insert(name);
  }

  Network build() {
    Network& network = network_;
    network.rate_slope = number("rate_slope", 1, 16);
    network.reset_interval = number("reset_interval", 0, INT_MAX);
    network.shift_input = number("A.shift", 1, 12);
    network.unit_input = number("A.unit", 1, 4096);
    network.shift_feedback = number("B.shift", 1, 12);
    network.unit_feedback = -number("B.unit", -4096, -1);
    network.input_fan_out = fan_out("input", kPixels);
    const std::int64_t largest_trace = std::int64_t{network.unit_input} << network.shift_input;
    if (has("stem1.weight")) {
      network.shift_membrane = number("membrane.shift", 1, 12);
      network.shift_readout = number("readout.shift", 1, 12);
      for (const char* kernel : {"membrane.unit", "readout.unit"}) number(kernel, 1, 1);
      add_hidden_layers(largest_trace);
      add_output_neurons(network.tokens * network.channels, 1);
    } else {
      add_output_neurons(kPixels, largest_trace);
    }
    expect(unread_.empty(),
           "no array that this engine does not know, found " + (unread_.empty() ? "" : *unread_.begin()));
    return std::move(network_);
  }

 private:
  bool has(const std::string& name) const { return arrays_.contains(name); }

  // The values of an array, and its shape.
  template <class T>
  std::pair<std::span<const T>, std::vector<std::size_t>> array(const std::string& name) {
    const auto found = arrays_.find(name);
    expect(found != arrays_.end(), "an array " + name + ", found none");
    const auto* values = std::get_if<std::span<const T>>(&found->second.values);
    expect(values, "the array " + name + " of another type");
    unread_.erase(name);
    return {*values, found->second.shape};
  }

  // `size` values of any shape.
  template <class T>
  std::vector<T> values(const std::string& name, std::size_t size) {
    const auto [found, shape] = array<T>(name);
    expect(found.size() == size, std::to_string(size) + " values in the array " + name + ", found " + text(shape));
    return {found.begin(), found.end()};
  }

  int number(const std::string& name, int least, int most) {
    const int value = values<std::int32_t>(name, 1)[0];
    expect(least <= value && value <= most, name + " from " + std::to_string(least) + " to " + std::to_string(most) +
                                                ", found " + std::to_string(value));
    return value;
  }

  // Synapses that a spike drives, for each place of a layer.
  std::vector<std::int32_t> fan_out(const std::string& layer, int positions) {
    auto result = values<std::int32_t>(layer + ".fan_out", positions);
    for (const int synapses : result) {
      expect(synapses >= 0 && synapses < kMostFanOut, "a fan-out of " + layer + " from 0 to 2**20");
    }
    return result;
  }

  // A matrix [input][output], or a window [output][input][kernel][kernel], with the range of what it adds if no input
  // is larger than `peak`.
  Synapses synapses(const std::string& name, int inputs, std::int64_t peak = 1, int kernel = 1, int stride = 1) {
    const auto [weight, shape] = array<std::int8_t>(name + ".weight");
    const bool matrix = kernel == 1;
    const std::size_t outputs = shape.empty() ? 0 : shape[matrix ? shape.size() - 1 : 0];
    const auto in = static_cast<std::size_t>(inputs), side = static_cast<std::size_t>(kernel);
    expect(outputs >= 1 && outputs <= kMostChannels, "a number of outputs of " + name + " from 1 to 2**16");
    const auto wanted = matrix ? std::vector{in, outputs} : std::vector{outputs, in, side, side};
    expect(shape == wanted, "the shape " + text(wanted) + " of " + name + ".weight, found " + text(shape));
    Synapses result;
    result.kernel = kernel;
    result.stride = stride;
    result.inputs = inputs;
    result.outputs = static_cast<int>(outputs);
    result.padded = round_up(result.outputs, kLanePadding);
    result.bias = values<std::int32_t>(name + ".bias", outputs);
    result.weight.resize(weight.size());
    const std::size_t rows = weight.size() / outputs;  // [input][tap]
    for (std::size_t output = 0; output < outputs; ++output) {
      const std::int64_t bias = result.bias[output];
      Interval current{bias, bias};
      for (std::size_t row = 0; row < rows; ++row) {
        const std::int8_t w = matrix ? weight[row * outputs + output] : weight[output * rows + row];
        result.weight[row * outputs + output] = w;
        (w < 0 ? current.low : current.high) += w * peak;
      }
      result.current.push_back(bounded(current, name));
      result.parts.push_back(bounded(
          {current.low - std::max<std::int64_t>(bias, 0), current.high - std::min<std::int64_t>(bias, 0)}, name));
    }
    return result;
  }

  std::vector<std::int32_t> v_threshold(const std::string& layer, std::size_t channels) {
    return values<std::int32_t>(layer + ".v_threshold", channels);
  }

  // A layer of LIF neurons with that range of currents, and of parts of their sums, for each channel; its index.
  int layer(const std::string& name, int positions, const std::vector<Interval>& current,
            const std::vector<Interval>& parts) {
    Neurons neurons;
    neurons.name = name;
    neurons.positions = positions;
    neurons.channels = static_cast<int>(current.size());
    neurons.padded = round_up(neurons.channels, kLanePadding);
    neurons.words = round_up(neurons.padded, kWordBits) / kWordBits;
    neurons.v_threshold = v_threshold(name, current.size());
    neurons.fan_out = fan_out(name, positions);
    if (network_.layers.size() >= kMapLayers) {
      for (const std::int32_t synapses : neurons.fan_out) {
        expect(synapses == neurons.fan_out[0], "the same fan-out of every token of " + name);
      }
    }
    for (std::size_t channel = 0; channel < current.size(); ++channel) {
      neurons.bound.include(parts[channel]);
      neurons.bound.include(potential_range(current[channel], neurons.v_threshold[channel], network_.shift_membrane));
    }
    bounded(neurons.bound, name);
    const int index = static_cast<int>(network_.layers.size());
    network_.layers.push_back(std::move(neurons));
    fix(index, !network_.layers[index].bound.fits16());
    return index;
  }

  // Chooses the accumulator type of a layer.
  void fix(int index, bool wide) {
    Neurons& neurons = network_.layers[index];
    neurons.wide = wide;
    // Padding never fires: its potential stays 0.
    neurons.threshold = padded_row(neurons.v_threshold, neurons.padded, 1, wide);
  }

  // Removes the synapses of neurons that no input can make fire. Nothing reads their potentials, which are often far
  // from all others: without them most layers fit into 16 bits.
  void leave_out_silent(Synapses& synapses, const std::string& layer) {
    const auto limit = v_threshold(layer, synapses.current.size());
    for (std::size_t output = 0; output < limit.size(); ++output) {
      const Interval range = potential_range(synapses.current[output], limit[output], network_.shift_membrane);
      if (range.high >= limit[output]) continue;
      for (std::size_t i = output; i < synapses.weight.size(); i += limit.size()) synapses.weight[i] = 0;
      synapses.bias[output] = 0;
      synapses.current[output] = synapses.parts[output] = {};
    }
  }

  // The layer that these synapses alone drive.
  int driven(const std::string& name, int positions, Synapses& synapses) {
    leave_out_silent(synapses, name);
    const int index = layer(name, positions, synapses.current, synapses.parts);
    lay_out(synapses, network_.layers[index].wide);
    return index;
  }

  // Current that tells a token where it is, 0 if nothing does. Every step adds it to the residual potential.
  std::vector<std::int32_t> position() {
    Synapses& stem3 = network_.stem3;
    const std::size_t channels = network_.channels;
    if (!has("position")) return std::vector<std::int32_t>(network_.tokens * channels);
    auto position = values<std::int32_t>("position", network_.tokens * channels);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      Interval added{position[channel], position[channel]};
      for (std::size_t i = channel; i < position.size(); i += channels) added.include({position[i], position[i]});
      stem3.current[channel] = bounded(stem3.current[channel] + added, "stem3");
      const Interval or_none{std::min<std::int64_t>(added.low, 0), std::max<std::int64_t>(added.high, 0)};
      stem3.parts[channel] = bounded(stem3.parts[channel] + or_none, "stem3");
    }
    return position;
  }

  // The side that a token reads each channel from, if not all from itself.
  void mask_neighbours() {
    if (!has("sides")) return;
    const int words = round_up(network_.channels, kWordBits) / kWordBits;
    network_.seen_from.assign(static_cast<std::size_t>(kSides) * words, 0);
    const auto sides = values<std::int8_t>("sides", network_.channels);
    for (int channel = 0; channel < network_.channels; ++channel) {
      const int side = sides[channel];
      expect(side >= 0 && side < kSides, "sides from 0 to 4 in the array sides");
      network_.seen_from[side * words + channel / kWordBits] |= std::uint64_t{1} << channel % kWordBits;
    }
  }

  // Lays out the start of each token's residual potential.
  void lay_out_places(const std::vector<std::int32_t>& position) {
    const Synapses& stem3 = network_.stem3;
    const std::size_t padded = stem3.padded, channels = network_.channels;
    auto fill = [&](auto& place) {
      place.assign(network_.tokens * padded, 0);
      for (std::size_t i = 0; i < position.size(); ++i) {
        const std::int32_t start = stem3.bias[i % channels] + position[i];
        place[i / channels * padded + i % channels] = static_cast<std::decay_t<decltype(place[0])>>(start);
      }
    };
    if (network_.wide_stream) fill(network_.place.wide);
    else fill(network_.place.narrow);
  }

  // Stem, blocks and tokens.
  void add_hidden_layers(std::int64_t largest_trace) {
    Network& network = network_;
    const int half = kSide / 2, quarter = kSide / 4;
    network.stem1 = synapses("stem1", 1, largest_trace, 5, 2);
    network.stem2 = synapses("stem2", network.stem1.outputs, 1, 3, 1);
    network.stem3 = synapses("stem3", network.stem2.outputs, 1, 3, 2);
    network.tokens = quarter * quarter;
    network.channels = network.stem3.outputs;
    driven("stem1", half * half, network.stem1);
    driven("stem2", half * half, network.stem2);

    // The residual potential: everything that is added to it has one type. Any part of the sum has to fit as well.
    const auto places = position();
    mask_neighbours();
    std::vector<Interval> stream = network.stem3.parts;
    auto onto_stream = [&](const std::string& name, int inputs) {
      Synapses result = synapses(name, inputs);
      expect(result.outputs == network.channels, "residual synapses onto every channel from " + name);
      for (int channel = 0; channel < network.channels; ++channel) {
        stream[channel] = stream[channel] + result.parts[channel];
      }
      return result;
    };
    auto square = [&](const std::string& name) {
      Synapses result = synapses(name, network.channels);
      expect(result.outputs == network.channels, "synapses from all channels to all of " + name);
      return result;
    };
    auto name_of = [](std::size_t block) { return "block" + std::to_string(block + 1) + "."; };
    while (has(name_of(network.blocks.size()) + "expand.weight")) {
      const std::string name = name_of(network.blocks.size());
      Block block;
      block.attends = has(name + "query.weight");
      if (block.attends) {
        block.query = square(name + "query");
        block.key = square(name + "key");
        block.value = square(name + "value");
        block.projection = onto_stream(name + "projection", network.channels);
        network.heads = number("heads", 1, network.channels);
        expect(network.channels % network.heads == 0, "heads that divide the channels");
      }
      block.expand = synapses(name + "expand", network.channels);
      block.contract = onto_stream(name + "contract", block.expand.outputs);
      network.blocks.push_back(std::move(block));
    }
    for (int channel = 0; network.heads && channel < network.channels; ++channel) {
      const int width = network.channels / network.heads;
      network.head_offset.push_back(channel / width * width);
    }

    std::vector<int> residual_layers;
    auto residual = [&](const std::string& name) {
      residual_layers.push_back(layer(name, network.tokens, stream, stream));
      return residual_layers.back();
    };
    for (std::size_t i = 0; i < network.blocks.size(); ++i) {
      Block& block = network.blocks[i];
      const std::string name = name_of(i);
      if (block.attends) {
        block.attention_in_layer = residual(name + "attention_in");
        block.query_layer = driven(name + "query", network.tokens, block.query);
        block.key_layer = driven(name + "key", network.tokens, block.key);
        block.value_layer = driven(name + "value", network.tokens, block.value);
        const std::int64_t most = std::int64_t{network.tokens} * (network.channels / network.heads);
        const std::vector<Interval> counts(network.channels, Interval{0, most});
        block.attention_layer = layer(name + "attention", network.tokens, counts, counts);
      }
      block.mlp_in_layer = residual(name + "mlp_in");
      block.mlp_hidden_layer = driven(name + "mlp_hidden", network.tokens, block.expand);
    }
    network.tokens_layer = residual("tokens");
    for (const int index : residual_layers) network.wide_stream = network.wide_stream || network.layers[index].wide;
    for (const int index : residual_layers) fix(index, network.wide_stream);
    lay_out(network.stem3, network.wide_stream);
    lay_out_places(places);
    for (Block& block : network.blocks) {
      if (block.attends) lay_out(block.projection, network.wide_stream);
      lay_out(block.contract, network.wide_stream);
    }
  }

  // Output neurons that read `features` spikes, or filtered pixels of at most `largest_input`.
  void add_output_neurons(int features, std::int64_t largest_input) {
    Network& network = network_;
    const auto [weight, shape] = array<std::int8_t>("readout.weight");
    const std::vector<std::size_t> wanted{static_cast<std::size_t>(features), kClasses};
    expect(shape == wanted, "the shape " + text(wanted) + " of readout.weight, found " + text(shape));
    network.readout.assign(static_cast<std::size_t>(features) * kClassLanes, 0);
    std::array<std::int64_t, kClasses> reach{};
    for (std::size_t i = 0; i < weight.size(); ++i) {
      network.readout[i / kClasses * kClassLanes + i % kClasses] = weight[i];
      reach[i % kClasses] += std::abs(weight[i]);
    }
    const auto feedback = values<std::int32_t>("readout.feedback", kClasses);
    const auto gamma = values<std::int32_t>("readout.gamma", kClasses);
    for (int k = 0; k < kClasses; ++k) {
      network.feedback[k] = feedback[k];
      network.gamma[k] = gamma[k];
      const std::int64_t trace = std::int64_t{network.unit_feedback} << network.shift_feedback;
      const std::int64_t most = ((reach[k] * largest_input) << network.shift_readout) +
                                std::abs(std::int64_t{gamma[k]}) + std::abs(std::int64_t{feedback[k]}) * trace;
      bounded({-most, most}, "the potential");
    }
    network.shift_sigmoid = number("sigmoid.shift", 0, 12);
    const auto table = array<float>("sigmoid").first;
    expect(table.size() % 2 == 1, "a middle of the table sigmoid");
    network.sigmoid.assign(table.size(), 0.0f);
    for (std::size_t i = 0; i < table.size(); ++i) {
      expect(table[i] >= 0.0f && table[i] <= 1.0f, "probabilities in the table sigmoid");
      network.sigmoid[i] = table[i];
    }
  }

  const Arrays& arrays_;
  std::set<std::string> unread_;
  Network network_;
};

}  // namespace

Network build(const Arrays& arrays) { return Builder(arrays).build(); }

}  // namespace spikehead
