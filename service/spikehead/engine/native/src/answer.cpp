#include "answer.hpp"

#include <charconv>
#include <string_view>

namespace spikehead {
namespace {

// Appends JSON to a text.
class Writer {
 public:
  explicit Writer(std::size_t size) { text_.reserve(size); }
  Writer& operator<<(std::string_view text) {
    text_ += text;
    return *this;
  }
  Writer& operator<<(std::int64_t value) { return number(value); }
  Writer& operator<<(std::uint64_t value) { return number(value); }
  // The shortest text that reads back as the same double; always a fraction, as Python writes it.
  Writer& operator<<(double value) {
    char buffer[32];
    const char* end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
    const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
    text_ += text;
    if (text.find_first_of(".e") == std::string_view::npos) text_ += ".0";
    return *this;
  }
  Writer& milliseconds(double value) {
    char buffer[64];
    text_.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, 4).ptr);
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  template <class T>
  Writer& number(T value) {
    char buffer[24];
    text_.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
    return *this;
  }
  std::string text_;
};

}  // namespace

int prediction(const Outcome& outcome) {
  int best = 0;
  for (int k = 1; k < kClasses; ++k) {
    if (outcome.probabilities[k] > outcome.probabilities[best]) best = k;
  }
  return best;
}

std::string answer(const Wording& wording, const std::string& id, std::uint64_t seed, const Outcome& outcome,
                   const Timings& timings) {
  Writer json(1536);
  const int best = prediction(outcome);
  json << R"({"id":")" << id << R"(",)" << wording.model << R"("prediction":)" << std::int64_t{best};
  json << R"(,"confidence":)" << outcome.probabilities[best] << R"(,"class_probabilities":[)";
  for (int k = 0; k < kClasses; ++k) json << (k ? "," : "") << outcome.probabilities[k];
  json << R"(],"spike_counts":{"input":)" << outcome.counts.front() << R"(,"layers":{)";
  for (std::size_t i = 0; i < wording.layers.size(); ++i) {
    json << (i ? "," : "") << wording.layers[i] << ":" << outcome.counts[i + 1];
  }
  json << R"(},"output":[)";
  for (int k = 0; k < kClasses; ++k) json << (k ? "," : "") << outcome.output_counts[k];
  json << R"(]},"steps_used":)" << std::int64_t{outcome.steps} << R"(,"max_steps":)" << wording.max_steps;
  json << R"(,"stopped_by":")" << (outcome.sure ? "confidence" : "max_steps");
  json << R"(","confidence_threshold":)" << wording.confidence << R"(,"seed":)" << seed;
  json << R"(,"encoder":)" << wording.encoder;
  json << R"(,"synaptic_operations":)" << outcome.accumulates() + outcome.multiply_accumulates();
  json << R"(,"synaptic_operations_by_kind":{"accumulates":)" << outcome.accumulates();
  json << R"(,"multiply_accumulates":)" << outcome.multiply_accumulates() << R"(},"timings_ms":{"decode":)";
  json.milliseconds(timings.decode_ms) << R"(,"encode":)";
  json.milliseconds(timings.encode_ms) << R"(,"simulate":)";
  json.milliseconds(timings.simulate_ms) << "}}";
  return json.take();
}

}  // namespace spikehead
