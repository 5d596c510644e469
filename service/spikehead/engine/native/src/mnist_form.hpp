// Whether a picture is in MNIST's form already (`spikehead.pictures.mnist_form`).
#pragma once

#include <cstdint>

namespace spikehead {

// Where a digit may lie in that form.
struct Form {
  double centred = 0.0;           // pixels between centre of mass and middle
  int smallest = 0, largest = 0;  // of the longer side
};

// Whether 28 x 28 pixels are in that form.
bool has_form(const std::uint8_t* image, const Form& form);

}  // namespace spikehead
