// The retina of `service.retina`, to the bit.
#pragma once

#include <cstdint>

namespace spikehead {

// Brightness to contrast (`service.retina.contrast`). [784] -> [784].
void see_contrast(const std::uint8_t* image, std::uint8_t* contrast);

}  // namespace spikehead
