#include "grapnel/engine/pages.h"

#include <cstdint>
#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>

namespace grapnel {

void* map_pages(std::size_t bytes) noexcept {
  void* data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  // Streaming through weights in pages of 4 KiB spends much of its time looking up where they lie. Only a
  // wish for pages of 2 MiB; systems without them go on with small ones.
  madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

void unmap_pages(void* data, std::size_t bytes) noexcept {
  munmap(data, bytes);
}

void return_pages(void* data, std::size_t bytes) noexcept {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::size_t ample_address_space() noexcept {
  const long pages = sysconf(_SC_PHYS_PAGES);
  return pages > 0 ? 2 * static_cast<std::size_t>(pages) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE))
                   : 0;
}

}  // namespace grapnel

#else

namespace grapnel {

void* map_pages(std::size_t bytes) noexcept {
  constexpr std::size_t kPage = 4096;
  return std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
}

void unmap_pages(void* data, std::size_t) noexcept {
  std::free(data);
}

void return_pages(void*, std::size_t) noexcept {}

std::size_t ample_address_space() noexcept {
  return 0;
}

}  // namespace grapnel

#endif
