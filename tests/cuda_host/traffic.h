// How the warps of a kernel used memory: counted where somebody asks, as that takes as long as all else.
#pragma once

#include <cstdint>
#include <map>
#include <source_location>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace grapnel::cuda_host {

using Site = std::source_location;

inline constexpr unsigned kWarpSize = 32;

enum class Space : std::uint8_t { global, shared };

/// A place in the source, comparable.
using Line = std::tuple<std::string_view, unsigned, unsigned>;
inline Line line_of(const Site& site) {
  return {site.file_name(), site.line(), site.column()};
}

inline bool same_line(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::string_view(a.file_name()) == b.file_name());
}

/// Lanes that come to one line the same time make one request.
struct Traffic {
  std::uint64_t global_requests = 0;
  std::uint64_t global_sectors = 0;  // of 32 bytes
  std::uint64_t shared_requests = 0;
  std::uint64_t shared_passes = 0;  // over the 32 banks; one a request and 128 bytes if nothing conflicts

  Traffic& operator+=(const Traffic& other);
};

/// While one exists, launches count; otherwise their Traffic is 0. With GRAPNEL_TRAFFIC in the environment
/// all do, and when the program ends a table on standard error says what each kernel did.
class CountTraffic {
 public:
  CountTraffic() { ++count_; }
  ~CountTraffic() { --count_; }
  CountTraffic(const CountTraffic&) = delete;
  CountTraffic& operator=(const CountTraffic&) = delete;
  static bool on() { return count_ > 0; }

 private:
  static int count_;
};

/// What the warps of one block asked for.
class Requests {
 public:
  void add(unsigned warp, const Site& site, unsigned visit, Space space, std::uintptr_t at,
           std::size_t bytes);
  Traffic count() const;

 private:
  struct Request {
    Space space;
    std::vector<std::pair<std::uintptr_t, std::size_t>> lanes;  // where, bytes
  };
  static std::uint64_t sectors_of(const Request& request);
  static std::uint64_t passes_of(const Request& request);

  std::map<std::tuple<unsigned, Line, unsigned>, Request> requests_;  // by warp, line and visit
};

/// For the table.
void note_traffic(const char* kernel, unsigned threads, std::size_t shared_bytes, const Traffic& traffic);

}  // namespace grapnel::cuda_host
