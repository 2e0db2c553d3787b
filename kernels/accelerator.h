// A device beside the CPU, as the engine sees it: memory, copies, and a table of kernels.
//
// A build has at most one kind, found by cuda_accelerator(): table_cuda.cu in a build with nvcc,
// table_no_cuda.cpp without, and the model of a GPU in the tests (tests/cuda_host). What is started on a
// device runs in the order it was started in; copies to the host wait for what was started before them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// The device refused, or a kernel went wrong.
class DeviceFault : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What whoever asked for so much memory is told, if the device has no more.
inline std::string out_of_memory(const std::string& device, std::size_t bytes) {
  return device + " is out of memory: " + std::to_string(bytes) +
         " bytes were asked for; use a smaller batch or picture";
}

/// Work that is recorded once and then started as one, again and again, on the same memory. Each kind of
/// accelerator has its own.
struct Graph;

/// The rehearsal runs the work, and what memory it takes is the graph's from then on. The capture is told the
/// same work again and only records it.
enum class GraphPhase : std::uint8_t { rehearsal, capture };

struct Accelerator {
  /// How many devices can be used; if none, `why` says what is missing.
  int (*device_count)(std::string* why);
  /// Null if the device has no more memory. `release` may be called while kernels that use it still run.
  void* (*allocate)(int device, std::size_t bytes);
  void (*release)(int device, void* data, std::size_t bytes) noexcept;
  // These throw DeviceFault.
  void (*copy_to_device)(int device, void* to, const void* from, std::size_t bytes);
  void (*copy_to_host)(int device, void* to, const void* from, std::size_t bytes);
  void (*copy_between)(int to_device, void* to, int from_device, const void* from, std::size_t bytes);
  /// Until everything started on the device has ended.
  void (*synchronize)(int device);
  /// Looks on the device for one of `count` indices outside of [0, size). The next copy to the host, or
  /// synchronize, throws what was found first and names the operation, a string that lives as long as the
  /// program.
  void (*check_index)(int device, const char* operation, std::int64_t size, std::int64_t count,
                      const std::int64_t* index);
  /// From now on, this thread's kernels and copies without a device of their own run there.
  void (*select)(int device);

  // Graphs; all but free_graph throw DeviceFault.
  Graph* (*make_graph)(int device);
  /// From here to end_graph, what this thread starts on the device is the graph's. In a capture, whatever
  /// needs the host throws: copies from it or to it, waiting, memory that the rehearsal has not taken.
  void (*begin_graph)(Graph* graph, GraphPhase phase);
  /// Refuses a rehearsal of which somebody still holds memory.
  void (*end_graph)(Graph* graph);
  /// Starts the work, after what was started before. May be called by any thread.
  void (*replay_graph)(Graph* graph);
  /// May be called in the middle of a phase, by its thread. Memory goes back when nobody holds it.
  void (*free_graph)(Graph* graph) noexcept;

  /// Its entries for double are null.
  const Table* table;
};

/// Null in a build without CUDA.
const Accelerator* cuda_accelerator();

}  // namespace grapnel::kernels
