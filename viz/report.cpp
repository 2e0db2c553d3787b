#include "grapnel/viz/report.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>

#include "grapnel/viz/codec.h"

namespace grapnel::viz {
namespace {

constexpr const char* kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#212529}"
    "h2{margin-top:2.5rem;border-bottom:1px solid #dee2e6}"
    ".pictures{display:flex;flex-wrap:wrap;gap:1.2rem;align-items:flex-start}"
    "figure{margin:0}figure img{display:block;width:100%;border-radius:4px}"
    "figcaption{font-size:.85rem;margin-top:.3rem}figcaption span{color:#6c757d;display:block}"
    ".bar{display:grid;grid-template-columns:10rem 1fr 4rem;gap:.6rem;align-items:center;max-width:40rem}"
    ".bar i{display:block;background:#1864ab;height:.7rem;border-radius:2px;min-width:1px}";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// RFC 4648.
std::string base64(std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? bytes[i + k] : 0);
    for (std::size_t k = 0; k < 4; ++k) out += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string figure(const ReportPicture& picture, int width) {
  const bool enlarged = picture.image.width() * 2 <= width;  // single values are to be seen, not a blur
  return "<figure style=\"width:" + std::to_string(width) + "px\"><img" +
         (enlarged ? " style=\"image-rendering:pixelated\"" : "") + " alt=\"" + escaped(picture.title) +
         "\" src=\"data:image/png;base64," + base64(encode_png(picture.image)) + "\"><figcaption>" +
         escaped(picture.title) + (picture.text.empty() ? "" : "<span>" + escaped(picture.text) + "</span>") +
         "</figcaption></figure>\n";
}

std::string bar(const ReportBar& bar) {
  char share[64];
  std::snprintf(share, sizeof share, "<i style=\"width:%.1f%%\"></i><span>%.1f %%</span>", 100 * bar.share,
                100 * bar.share);
  return "<div class=\"bar\"><span>" + escaped(bar.label) + "</span>" + share + "</div>\n";
}

}  // namespace

std::string html_report(const std::string& title, const std::vector<ReportSection>& sections) {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                     escaped(title) + "</title>\n<style>" + kStyle + "</style></head><body>\n<h1>" +
                     escaped(title) + "</h1>\n";
  for (const ReportSection& section : sections) {
    page += "<h2>" + escaped(section.title) + "</h2>\n";
    if (!section.text.empty()) page += "<p>" + escaped(section.text) + "</p>\n";
    for (const ReportBar& one : section.bars) page += bar(one);
    page += "<div class=\"pictures\">\n";
    for (const ReportPicture& picture : section.pictures) page += figure(picture, section.picture_width);
    page += "</div>\n";
  }
  return page + "</body></html>\n";
}

}  // namespace grapnel::viz
