// Memory by pages, from the system. Internal to the engine.
#pragma once

#include <cstddef>

namespace grapnel {

/// `bytes` of address space, in pages that cost nothing until they are touched; null if there is no such
/// room.
void* map_pages(std::size_t bytes) noexcept;
void unmap_pages(void* data, std::size_t bytes) noexcept;
/// Gives back the pages that lie wholly within: they stay mapped, and hold anything.
void return_pages(void* data, std::size_t bytes) noexcept;
/// Address space that is never too small: twice the machine's memory; 0 where the system does not tell, or
/// has no pages to be asked for.
std::size_t ample_address_space() noexcept;

}  // namespace grapnel
