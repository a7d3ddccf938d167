// Whether fresh memory is to be filled with NaN, so that a read of what nobody wrote shows: MMVIM_POISON=1. For hosts.
#pragma once
#include <cstdlib>

namespace mmvim {

inline bool poison() {
  const char* value = std::getenv("MMVIM_POISON");
  return value && *value == '1';
}

}  // namespace mmvim
