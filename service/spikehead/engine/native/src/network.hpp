// A network as the engine holds it: weights in rows by input channel, thresholds, shapes, and bounds.
//
// Every integer the engine computes is bounded here, from the weights, when a network is loaded. A layer whose
// values provably stay within 16 bits is simulated with 16-bit accumulators, any other with 32.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace spikehead {

constexpr int kSide = 28;
constexpr int kPixels = kSide * kSide;
constexpr int kClasses = 10;
constexpr int kClassLanes = 16;   // ten output neurons, padded
constexpr int kAlignment = 64;    // bytes: one cache line, one AVX-512 register
constexpr int kLanePadding = 32;  // channels are padded to a multiple of this: 64 bytes of 16-bit values
constexpr int kWordBits = 64;     // spikes of 64 channels are one word
constexpr int kSides = 5;         // that a token reads from: itself, above, below, left, right
constexpr int kMapLayers = 2;     // the first two hidden layers are maps, all others tokens

// Memory aligned for any vector, with no value that a constructor would set.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(std::size_t size, T value = T()) { assign(size, value); }
  void assign(std::size_t size, T value) {
    size_ = size;
    // Loads of whole vectors may reach past the last value.
    const std::size_t bytes = (size * sizeof(T) / kAlignment + 2) * kAlignment;
    data_.reset(static_cast<T*>(::operator new(bytes, std::align_val_t(kAlignment))));
    std::memset(static_cast<void*>(data_.get()), 0, bytes);
    for (std::size_t i = 0; i < size; ++i) data_.get()[i] = value;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(static_cast<void*>(p), std::align_val_t(kAlignment)); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

// Range of a value, both ends included.
struct Interval {
  std::int64_t low = 0;
  std::int64_t high = 0;
  Interval operator+(const Interval& other) const { return {low + other.low, high + other.high}; }
  // One less than the type holds: a threshold that cannot be reached needs a value of its own.
  bool fits16() const { return low >= -32767 && high <= 32766; }
  void include(const Interval& other) {
    if (other.low < low) low = other.low;
    if (other.high > high) high = other.high;
  }
};

// Values in the accumulator type of their layer: one of the two is filled.
struct Values {
  Aligned<std::int16_t> narrow;
  Aligned<std::int32_t> wide;
  template <class T>
  const T* as() const {
    if constexpr (sizeof(T) == 2) return narrow.data();
    else return wide.data();
  }
  template <class T>
  T* as() {
    if constexpr (sizeof(T) == 2) return narrow.data();
    else return wide.data();
  }
};

// Synapses onto `outputs` neurons: a row of weights for each input (of each tap of a convolution's window).
struct Synapses {
  int kernel = 1;  // side of the window; 1 for a matrix
  int stride = 1;
  int inputs = 0;
  int outputs = 0;
  int padded = 0;                   // outputs, padded: the length of a row
  std::vector<std::int8_t> weight;  // [input][tap][output], until `rows` are laid out
  std::vector<std::int32_t> bias;   // [output]
  std::vector<Interval> current;    // [output] range of the sum of a step
  std::vector<Interval> parts;      // [output] range of any part of that sum, in any order
  Values rows;                      // [input][tap][padded]
  Values start;                     // [padded] bias
};

// A layer of LIF neurons: `positions` places (of a map, or tokens) with `channels` neurons each.
struct Neurons {
  std::string name;
  int positions = 0;
  int channels = 0;
  int padded = 0;
  int words = 0;  // of 64 spikes, a position
  bool wide = false;
  Interval bound;                         // of every potential before reset
  std::vector<std::int32_t> v_threshold;  // [channel]
  Values threshold;                       // [padded]
  std::vector<std::int32_t> fan_out;      // [position] synapses that one of its spikes drives
};

struct Block {
  bool attends = false;  // has attention; else it is an MLP alone
  Synapses query, key, value, projection, expand, contract;
  int query_layer = 0, key_layer = 0, value_layer = 0, attention_in_layer = 0, attention_layer = 0;
  int mlp_in_layer = 0, mlp_hidden_layer = 0;
};

struct Network {
  int heads = 0;  // of each block that attends; 0: none does
  int channels = 0;
  int tokens = 0;
  std::vector<int> head_offset;  // [channel] first channel of its head
  int rate_slope = 1;            // of the encoder's tuning curve
  int reset_interval = 0;        // steps after which the state begins anew; 0: never
  int shift_input = 0, unit_input = 0;
  int shift_membrane = 0, shift_readout = 0, shift_feedback = 0, unit_feedback = 0;
  Synapses stem1, stem2, stem3;
  Values place;  // [token][padded] start of the residual potential: bias and position
  std::vector<std::uint64_t>
      seen_from;  // [own, above, below, left, right][word] channels that a token reads from that side
  bool wide_stream = false;
  std::vector<Block> blocks;
  std::vector<Neurons> layers;  // hidden ones, in the order in which a spike travels; none: the GLM network
  int tokens_layer = 0;
  Aligned<std::int8_t> readout;  // [token, channel][class lanes]; without hidden layers [pixel][class lanes]
  std::array<std::int32_t, kClasses> feedback{}, gamma{};
  Aligned<float> sigmoid;  // spike probability of each potential >> shift_sigmoid from -half to half
  int shift_sigmoid = 0;
  std::vector<std::int32_t> input_fan_out;  // [pixel]

  // Tells if all potentials, traces and filters are 0 before time step t (`Card.begins_anew`).
  bool begins_anew(int t) const { return t == 0 || (reset_interval && t % reset_interval == 0); }
};

inline int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// leak(v) = v - floor(v / 2^shift)
inline std::int64_t leaked(std::int64_t v, int shift) { return v - (v >> shift); }

// Range of a LIF neuron's potential before reset, if every step adds `current`.
//
// From above: the potential after a step is under the threshold, and under the fixed point of the leak. From below: the
// leak takes at least 2^-shift of a negative potential, so it never falls under 2^shift times the lowest current.
inline Interval potential_range(const Interval& current, std::int64_t v_threshold, int shift) {
  const std::int64_t highest = current.high > 0 ? current.high : 0;
  const std::int64_t lowest = current.low < 0 ? current.low : 0;
  const std::int64_t resting = v_threshold > 1 ? v_threshold - 1 : 0;
  const std::int64_t fixed_point = (highest + 1) << shift;
  const std::int64_t left = resting < fixed_point ? resting : fixed_point;
  return {lowest * (std::int64_t{1} << shift), leaked(left, shift) + highest};
}

}  // namespace spikehead
