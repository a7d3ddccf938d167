// Polynomials shared by the kernels. `V` is a scalar or a vector of floats.
#pragma once
#include "walk.h"

namespace mmvim {

constexpr float kLog2e = 1.44269504f;
constexpr double kLn2 = 0.6931471805599453;

// How exact a function of half-precision inputs is: relative errors far below the rounding of those.
enum class Accuracy { kFull, kFloat16, kBFloat16 };

// 2^r for |r| <= 1/2. Relative errors of (2^r - 1) / r, which count where a decay is close to 1: 4e-7, 1.5e-5, 4.4e-4.
template <Accuracy A, class V>
MMVIM_HD V exp2_fraction(V r) {
  if constexpr (A == Accuracy::kFull) {
    V p = r * 1.3333558e-3f + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    return p * r + 1.0f;
  } else if constexpr (A == Accuracy::kFloat16) {
    V p = r * 9.6760420e-3f + 5.5838332e-2f;
    p = p * r + 2.4022168e-1f;
    p = p * r + 6.9313675e-1f;
    return p * r + 1.0f;
  } else {
    V p = r * 5.5922102e-2f + 2.4203582e-1f;
    p = p * r + 6.9312626e-1f;
    return p * r + 1.0f;
  }
}

// log(1 + x) for 0 <= x <= 1 without a division, relative errors 1.6e-7, 8.4e-6 and 5.7e-5 (fits of log1p(x) / x).
template <Accuracy A, class V>
MMVIM_HD V log1p_unit(V x) {
  if constexpr (A == Accuracy::kFull) {
    V p = x * 0.0052534578f - 0.0295885074f;
    p = p * x + 0.078361668f;
    p = p * x - 0.136747697f;
    p = p * x + 0.191114311f;
    p = p * x - 0.248443699f;
    p = p * x + 0.333192713f;
    p = p * x - 0.499995015f;
    p = p * x + 0.999999971f;
    return p * x;
  } else if constexpr (A == Accuracy::kFloat16) {
    V p = x * -0.023869151f + 0.101222284f;
    p = p * x - 0.210048690f;
    p = p * x + 0.325206667f;
    p = p * x - 0.499361366f;
    p = p * x + 0.999991596f;
    return p * x;
  } else {
    V p = x * 0.041347302f - 0.157427207f;
    p = p * x + 0.306300938f;
    p = p * x - 0.496977806f;
    p = p * x + 0.999943256f;
    return p * x;
  }
}

}  // namespace mmvim
