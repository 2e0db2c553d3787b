#include "curve.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "grapnel/viz/file.h"

namespace grapnel::tools {
namespace {

constexpr int kWidth = 420, kHeight = 260, kLeft = 56, kRight = 16, kTop = 40, kBottom = 44;

/// 1, 2 or 5 times a power of ten: the smallest that divides `range` into at most five parts.
double tick_step(double range) {
  const double power = std::pow(10, std::floor(std::log10(range / 5)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (range / (factor * power) <= 5) return factor * power;
  return 10 * power;
}

struct Series {
  const char *key, *label, *colour;
};

/// One chart: what the log calls `series` over the epochs.
class Chart {
 public:
  Chart(const std::vector<Json>& lines, int x_offset, const char* title, std::span<const Series> series)
      : lines_(lines), x_offset_(x_offset), title_(title), series_(series) {
    for (const Json& line : lines)
      for (const Series& one : series)
        if (line.contains(one.key)) highest_ = std::max(highest_, line.at(one.key).get<double>());
    if (highest_ <= 0) highest_ = 1;
    const double step = tick_step(highest_);
    highest_ = step * std::ceil(highest_ / step);
  }

  std::string svg() const {
    std::string out =
        format("<g transform=\"translate(%d,0)\">\n<text x=\"%d\" y=\"20\" class=\"title\">%s</text>\n",
               x_offset_, kLeft, title_);
    const double step = tick_step(highest_);
    for (int i = 0; i * step <= highest_ * 1.0001; ++i)
      out += format(
          "<path d=\"M%d %.1fH%d\" class=\"grid\"/><text x=\"%d\" y=\"%.1f\" class=\"left\">%g</text>\n",
          kLeft, y(i * step), kWidth - kRight, kLeft - 6, y(i * step) + 4, i * step);
    const int last = static_cast<int>(lines_.size());
    for (int epoch = 1; epoch <= last; epoch += std::max(1, static_cast<int>(tick_step(last))))
      out += format("<text x=\"%.1f\" y=\"%d\" class=\"below\">%d</text>\n", x(epoch), kHeight - kBottom + 18,
                    epoch);
    out += format("<text x=\"%d\" y=\"%d\" class=\"below\">epoch</text>\n", (kLeft + kWidth - kRight) / 2,
                  kHeight - 8);
    int legend = kWidth - kRight;
    for (const Series& one : series_) out += line_of(one, legend);
    return out + "</g>\n";
  }

 private:
  double x(int epoch) const {
    const double intervals = std::max<double>(1, static_cast<double>(lines_.size()) - 1);
    return kLeft + (epoch - 1) * (kWidth - kLeft - kRight) / intervals;
  }
  double y(double value) const { return kTop + (1 - value / highest_) * (kHeight - kTop - kBottom); }

  std::string line_of(const Series& one, int& legend) const {
    std::string points;
    int epoch = 0;
    for (const Json& line : lines_) {
      ++epoch;
      if (line.contains(one.key)) points += format("%.1f,%.1f ", x(epoch), y(line.at(one.key).get<double>()));
    }
    if (points.empty()) return {};
    const std::string out = format("<text x=\"%d\" y=\"20\" class=\"left\" fill=\"%s\">%s</text>\n", legend,
                                   one.colour, one.label) +
                            "<polyline stroke=\"" + one.colour + "\" points=\"" + points + "\"/>\n";
    legend -= 84;
    return out;
  }

  const std::vector<Json>& lines_;
  int x_offset_;
  const char* title_;
  std::span<const Series> series_;
  double highest_ = 0;
};

}  // namespace

void write_curve(const std::filesystem::path& path, const std::vector<Json>& lines) {
  constexpr Series kLoss[] = {{"val_loss", "validation", "#d9480f"}, {"loss", "training", "#1864ab"}};
  constexpr Series kAccuracy[] = {{"val_accuracy", "validation", "#d9480f"},
                                  {"accuracy", "training", "#1864ab"}};
  const std::string svg =
      format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n",
             2 * kWidth, kHeight, 2 * kWidth, kHeight) +
      "<style>text{font:12px "
      "sans-serif}.title{font-weight:bold}.left{text-anchor:end}.below{text-anchor:middle}"
      ".grid{stroke:#ddd}polyline{fill:none;stroke-width:2;stroke-linejoin:round}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n" +
      Chart(lines, 0, "loss", kLoss).svg() + Chart(lines, kWidth, "accuracy", kAccuracy).svg() + "</svg>\n";
  viz::write_file(path, svg);
}

}  // namespace grapnel::tools
