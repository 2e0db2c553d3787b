// Which classes a person means.
#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>

#include "grapnel/viz/explain.h"

namespace grapnel::viz {
namespace {

/// The whole text as a number.
std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// N of "topN".
std::optional<int> rank(std::string_view text) {
  if (!text.starts_with("top")) return std::nullopt;
  return number(text.substr(3));
}

/// The first `count` classes by falling score, equal ones by index.
std::vector<int> ranked(const Tensor& logits, int count) {
  const auto scores = logits.to_vector<double>();
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&scores](int a, int b) {
    const double of_a = scores[static_cast<std::size_t>(a)], of_b = scores[static_cast<std::size_t>(b)];
    return of_a > of_b || (of_a == of_b && a < b);
  });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

/// First and last rank, from 1: "topN" or "topM..topN".
std::optional<std::pair<int, int>> ranks(std::string_view text) {
  const std::size_t dots = text.find("..");
  if (dots == std::string_view::npos) {
    const auto last = rank(text);
    return last ? std::optional(std::pair(1, *last)) : std::nullopt;
  }
  const auto first = rank(text.substr(0, dots)), last = rank(text.substr(dots + 2));
  return first && last ? std::optional(std::pair(*first, *last)) : std::nullopt;
}

}  // namespace

std::vector<int> resolve_targets(std::string_view text, const Tensor& logits, const ClassNames* names) {
  if (logits.rank() != 2 || logits.size(0) != 1)
    throw ShapeError("resolve_targets: got logits of shape " + to_string(logits.shape()) +
                     ", expected (1,classes)");
  const int classes = static_cast<int>(logits.size(1));
  const std::string opening = "target \"" + std::string(text) + "\": ";
  const std::string knows = "the net knows the classes 0 to " + std::to_string(classes - 1);

  if (const auto wanted = ranks(text)) {
    const auto [first, last] = *wanted;
    if (first < 1 || last < first || last > classes)
      throw NameError(opening + "ranks go up from 1 to " + std::to_string(classes));
    const std::vector<int> order = ranked(logits, last);
    return {order.begin() + (first - 1), order.begin() + last};
  }
  const auto index = number(text);
  if (!index && !names) throw NameError(opening + knows + ", without labels; give an index or \"top1\"");
  const int target = index ? *index : names->find(text);
  if (target < 0 || target >= classes)
    throw NameError(opening + (index ? "" : "it is class " + std::to_string(target) + ", but ") + knows);
  return {target};
}

}  // namespace grapnel::viz
