#include "cuda_host/traffic.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>

namespace grapnel::cuda_host {
namespace {

/// From the least to the most.
struct Range {
  std::size_t least = SIZE_MAX, most = 0;
  void add(std::size_t value) {
    least = std::min(least, value);
    most = std::max(most, value);
  }
  std::string text() const {
    return least == most ? std::to_string(most) : std::to_string(least) + "-" + std::to_string(most);
  }
};

struct Sum {
  std::uint64_t launches = 0;
  Range threads, shared_bytes;
  Traffic traffic;
};

/// Printed when the program ends; tools/bench/cuda_report.py reads it.
struct Table {
  std::map<std::string, Sum> kernels;

  ~Table() {
    if (kernels.empty()) return;
    std::fprintf(stderr, "%-28s %9s %9s %13s %16s %8s %16s %8s\n", "launched as", "launches", "threads",
                 "shared bytes", "global requests", "sectors", "shared requests", "passes");
    for (const auto& [name, sum] : kernels) {
      const auto each = [](std::uint64_t part, std::uint64_t whole) {
        return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
      };
      const Traffic& t = sum.traffic;
      std::fprintf(stderr, "%-28s %9llu %9s %13s %16llu %8.2f %16llu %8.2f\n", name.c_str(),
                   static_cast<unsigned long long>(sum.launches), sum.threads.text().c_str(),
                   sum.shared_bytes.text().c_str(), static_cast<unsigned long long>(t.global_requests),
                   each(t.global_sectors, t.global_requests),
                   static_cast<unsigned long long>(t.shared_requests),
                   each(t.shared_passes, t.shared_requests));
    }
  }
};

}  // namespace

int CountTraffic::count_ = std::getenv("GRAPNEL_TRAFFIC") ? 1 : 0;

Traffic& Traffic::operator+=(const Traffic& other) {
  global_requests += other.global_requests;
  global_sectors += other.global_sectors;
  shared_requests += other.shared_requests;
  shared_passes += other.shared_passes;
  return *this;
}

void Requests::add(unsigned warp, const Site& site, unsigned visit, Space space, std::uintptr_t at,
                   std::size_t bytes) {
  Request& request = requests_[{warp, line_of(site), visit}];
  request.space = space;
  request.lanes.emplace_back(at, bytes);
}

Traffic Requests::count() const {
  Traffic traffic;
  for (const auto& [key, request] : requests_) {
    const bool global = request.space == Space::global;
    (global ? traffic.global_requests : traffic.shared_requests) += 1;
    (global ? traffic.global_sectors : traffic.shared_passes) +=
        global ? sectors_of(request) : passes_of(request);
  }
  return traffic;
}

std::uint64_t Requests::sectors_of(const Request& request) {
  std::set<std::uintptr_t> sectors;
  for (const auto& [at, bytes] : request.lanes)
    for (std::uintptr_t s = at / 32; s <= (at + bytes - 1) / 32; ++s) sectors.insert(s);
  return sectors.size();
}

/// Lanes are served 128 bytes at a time; words of one bank one after the other, one word for all who want it.
std::uint64_t Requests::passes_of(const Request& request) {
  const std::size_t bytes = request.lanes.front().second, together = bytes <= 4 ? kWarpSize : 128 / bytes;
  std::uint64_t passes = 0;
  for (std::size_t first = 0; first < request.lanes.size(); first += together) {
    std::array<std::set<std::uintptr_t>, 32> banks;
    for (std::size_t l = first; l < std::min(first + together, request.lanes.size()); ++l) {
      const std::uintptr_t at = request.lanes[l].first;
      for (std::uintptr_t word = at / 4; word <= (at + bytes - 1) / 4; ++word) banks[word % 32].insert(word);
    }
    std::size_t most = 1;
    for (const auto& words : banks) most = std::max(most, words.size());
    passes += most;
  }
  return passes;
}

void note_traffic(const char* kernel, unsigned threads, std::size_t shared_bytes, const Traffic& traffic) {
  static Table table;
  static const bool wanted = std::getenv("GRAPNEL_TRAFFIC") != nullptr;
  if (!wanted) return;
  Sum& sum = table.kernels[kernel];
  ++sum.launches;
  sum.threads.add(threads);
  sum.shared_bytes.add(shared_bytes);
  sum.traffic += traffic;
}

}  // namespace grapnel::cuda_host
