// Polynomials shared by the kernels. `V` is a scalar or a vector of floats.
#pragma once
#include "walk.h"

namespace mmvim {

constexpr float kLog2e = 1.44269504f;
constexpr double kLn2 = 0.6931471805599453;

// 2^r for |r| <= 1/2, relative error 2e-7.
template <class V>
MMVIM_HD V exp2_fraction(V r) {
  V p = r * 1.3333558e-3f + 9.6181291e-3f;
  p = p * r + 5.5504109e-2f;
  p = p * r + 2.4022651e-1f;
  p = p * r + 6.9314718e-1f;
  return p * r + 1.0f;
}

// log(1 + x) for 0 <= x <= 1 without a division, relative error 1.6e-7 (Chebyshev fit of log1p(x) / x).
template <class V>
MMVIM_HD V log1p_unit(V x) {
  V p = x * 0.0052534578f - 0.0295885074f;
  p = p * x + 0.078361668f;
  p = p * x - 0.136747697f;
  p = p * x + 0.191114311f;
  p = p * x - 0.248443699f;
  p = p * x + 0.333192713f;
  p = p * x - 0.499995015f;
  p = p * x + 0.999999971f;
  return p * x;
}

}  // namespace mmvim
