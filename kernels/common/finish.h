// Epilogues (kernels.h has the formula) of single values, for references, and of parts of an output.
#pragma once

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// Whether an epilogue does anything.
template <class T, class V>
bool any_step(const Epilogue<T, V>& e) {
  return e.scale || e.shift || e.residual || e.relu || e.mask || e.after;
}

/// An epilogue as seen from channel c, with element `at` as the first.
template <class T>
Epilogue<T> from(Epilogue<T> e, std::int64_t c, std::int64_t at) {
  for (const T** vector : {&e.scale, &e.shift, &e.after})
    if (*vector) *vector += c;
  for (const T** picture : {&e.residual, &e.mask})
    if (*picture) *picture += at;
  return e;
}

/// v at element `at` of the output and channel c.
template <class T>
T finished_value(T v, const Epilogue<T>& e, std::int64_t at, std::int64_t c) {
  if (e.scale) v *= e.scale[c];
  if (e.shift) v += e.shift[c];
  if (e.residual) v += e.residual[at];
  if (e.relu && v < 0) v = 0;
  if (e.mask && !(e.mask[at] > 0)) v = 0;
  if (e.after) v *= e.after[c];
  return v;
}

}  // namespace grapnel::kernels
