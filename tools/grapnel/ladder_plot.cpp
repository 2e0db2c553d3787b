// The ladders as horizontal bars, the peak of the machine as a line through them.
#include <algorithm>

#include "bench_ladder.h"
#include "grapnel/engine/device.h"
#include "grapnel/viz/file.h"

namespace grapnel::tools {
namespace {

constexpr int kWidth = 760, kLeft = 110, kRight = 170, kTop = 44, kBar = 18, kPitch = 26, kHead = 30;
constexpr const char *kOneThread = "#74a9d8", *kThreads = "#1864ab";

/// One ladder from `top` down; `scale` is in pixels a GFLOP/s. Moves `top` below it.
std::string chart(const Ladder& ladder, double scale, double peak, int& top) {
  const std::string title =
      format("<text x=\"%d\" y=\"%d\" class=\"title\">%s</text>\n", kLeft, top + 18, ladder.work.c_str());
  top += kHead;
  const int begin = top;
  std::string bars, texts;
  double before = 0;
  for (const Rung& rung : ladder.rungs) {
    const double speed = rung.speed(), length = speed * scale;
    bars += format("<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", kLeft, top, length,
                   kBar, rung.threads == 1 ? kOneThread : kThreads);
    texts +=
        format("<text x=\"%d\" y=\"%d\" class=\"left\">%s</text>", kLeft - 8, top + 13, rung.name.c_str());
    texts += format("<text x=\"%.1f\" y=\"%d\">%.3g GFLOP/s%s</text>\n", kLeft + length + 6, top + 13, speed,
                    before > 0 ? format(", %.1fx", speed / before).c_str() : "");
    before = speed;
    top += kPitch;
  }
  const std::string line = format("<path d=\"M%.1f %dV%d\" class=\"peak\"/>\n", kLeft + peak * scale,
                                  begin - 4, top - kPitch + kBar + 4);
  return title + bars + line + texts;
}

/// A colour and what it means.
std::string key(int x, const char* colour, const std::string& text) {
  return format("<rect x=\"%d\" y=\"14\" width=\"14\" height=\"14\" fill=\"%s\"/>", x, colour) +
         format("<text x=\"%d\" y=\"26\">%s</text>\n", x + 20, text.c_str());
}

}  // namespace

void write_plot(const std::filesystem::path& path, const Ladders& ladders) {
  double fastest = ladders.peak;
  for (const Ladder& ladder : ladders.ladders)
    for (const Rung& rung : ladder.rungs) fastest = std::max(fastest, rung.speed());
  const double scale = (kWidth - kLeft - kRight) / fastest;

  int height = kTop;
  std::string body;
  for (const Ladder& ladder : ladders.ladders) body += chart(ladder, scale, ladders.peak, height);
  height += 8;
  const std::string head =
      format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n",
             kWidth, height, kWidth, height) +
      "<style>text{font:12px sans-serif;fill:#222;stroke:white;stroke-width:4px;paint-order:stroke}"
      ".title{font-weight:bold}.left{text-anchor:end}"
      ".peak{stroke:#d9480f;stroke-width:2;stroke-dasharray:6 4}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  std::string legend = key(kLeft, kOneThread, "one thread");
  if (num_threads() > 1) legend += key(kLeft + 110, kThreads, format("%d threads", num_threads()));
  legend += format("<path d=\"M%d 21h24\" class=\"peak\"/>", kLeft + 210);
  legend += format("<text x=\"%d\" y=\"26\">measured peak, %.0f GFLOP/s with %s</text>\n", kLeft + 242,
                   ladders.peak, kernel_name());
  viz::write_file(path, head + legend + body + "</svg>\n");
}

}  // namespace grapnel::tools
