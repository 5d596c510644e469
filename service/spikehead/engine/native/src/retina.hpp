// The retina of `spikehead.model.retina`, to the bit, built with its constants.
#pragma once

#include <cstdint>

namespace spikehead {

// Turns brightness into contrast (`spikehead.model.retina.contrast`). [784] -> [784].
void see_contrast(const std::uint8_t* image, std::uint8_t* contrast);

}  // namespace spikehead
