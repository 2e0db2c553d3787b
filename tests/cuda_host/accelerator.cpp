// The model as the engine's CUDA device: the same kernels, tensors, hooks and networks, without a GPU. Linked
// in front of the library, it takes the place of kernels/table_no_cuda.cpp.
#include "grapnel/kernels/accelerator.h"

#include <cstring>
#include <deque>
#include <vector>

#include "cuda_host/capture.h"
#include "cuda_host/device.h"
#include "cuda_host/model.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/graph_memory.h"
#include "grapnel/kernels/common/index_fault.h"
#include "grapnel/kernels/common/staging.h"

namespace grapnel {

struct kernels::Graph {
  Graph(int device, GraphMemory::Take from, GraphMemory::Give to) : memory(device, from, to) {}

  GraphMemory memory;
  cuda_host::Work work;
};

namespace {

using kernels::Graph;
using kernels::GraphMemory;
using kernels::GraphPhase;
using kernels::Staging;

int device_count(std::string*) {
  return 1;
}

void* take_memory(int, std::size_t bytes) {
  return cuda_host::allocate(bytes);
}
void give_memory(int, void* data, std::size_t) noexcept {
  cuda_host::release(data);
}

void* allocate(int device, std::size_t bytes) {
  GraphMemory* graph = GraphMemory::current();
  return graph ? graph->take(device, bytes) : take_memory(device, bytes);
}
void release(int device, void* data, std::size_t bytes) noexcept {
  if (!GraphMemory::take_back(data)) give_memory(device, data, bytes);
}

/// Copies are over when they are started, and blocks so small that tensors of tests need several.
Staging& staging() {
  const auto make = [](int, std::size_t bytes) {
    static auto& blocks = *new std::deque<std::vector<std::byte>>;
    return Staging::Block{blocks.emplace_back(bytes).data()};
  };
  const auto to_device = [](int, void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
    cuda_host::set_written(to, bytes);
  };
  const auto to_host = [](int, void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
  };
  const auto nothing = [](int, void*) {};
  static auto& one = *new Staging(0, {make, to_device, to_host, nothing, nothing},
                                  {.small = 64, .large = 1000, .blocks = 3});
  return one;
}

void copy_to_device(int, void* to, const void* from, std::size_t bytes) {
  GraphMemory::refuse("a copy from the CPU");
  staging().to_device(to, from, bytes);
}

kernels::IndexFault& fault() {
  static auto* const one = [] {
    void* memory = cuda_host::allocate(sizeof(kernels::IndexFault));
    cuda_host::set_written(memory, sizeof(kernels::IndexFault));
    return new (memory) kernels::IndexFault;
  }();
  return *one;
}

void wait() {
  ++cuda_host::activity().waits;
  kernels::throw_fault(fault());
}

void copy_to_host(int, void* to, const void* from, std::size_t bytes) {
  GraphMemory::refuse("a copy to the CPU");
  staging().to_host(to, from, bytes);
  wait();
}
void copy_between(int, void* to, int, const void* from, std::size_t bytes) {
  cuda_host::do_or_record([=] {
    std::memcpy(to, from, bytes);
    cuda_host::set_written(to, bytes);
  });
}

void synchronize(int) {
  GraphMemory::refuse("waiting for the device");
  wait();
}
void check_index(int, const char* operation, std::int64_t size, std::int64_t count,
                 const std::int64_t* index) {
  kernels::find_index_fault(&fault(), operation, size, count, index);
}
void select(int) {
  GraphMemory::refuse("work on several devices");
}

Graph* make_graph(int device) {
  return new Graph(device, take_memory, give_memory);
}

void begin_graph(Graph* graph, GraphPhase phase) {
  graph->memory.enter(phase);
  if (phase == GraphPhase::capture) cuda_host::record_to(&graph->work);
}

void end_graph(Graph* graph) {
  graph->memory.leave();
  if (cuda_host::recording()) {
    cuda_host::record_to(nullptr);
    ++cuda_host::activity().captures;
  } else if (graph->memory.held()) {
    throw kernels::DeviceFault("work that keeps memory cannot be captured in a graph");
  }
}

void replay_graph(Graph* graph) {
  ++cuda_host::activity().replays;
  for (const auto& step : graph->work) step();
}

void free_graph(Graph* graph) noexcept {
  if (GraphMemory::current() == &graph->memory) cuda_host::record_to(nullptr);
  delete graph;
}

}  // namespace

device::Workspace::Workspace(std::size_t bytes)
    : bytes_(bytes), data_(bytes == 0 ? nullptr : allocate(0, bytes)) {
  if (bytes > 0 && !data_) throw kernels::DeviceFault(kernels::out_of_memory("cuda:0", bytes));
}

device::Workspace::~Workspace() {
  if (data_) release(0, data_, bytes_);
}

const kernels::Accelerator* kernels::cuda_accelerator() {
  static const Table table = make_cuda_table();
  fault();  // takes its memory before anybody limits it
  static const Accelerator model{device_count, allocate,    release,      copy_to_device, copy_to_host,
                                 copy_between, synchronize, check_index,  select,         make_graph,
                                 begin_graph,  end_graph,   replay_graph, free_graph,     &table};
  return &model;
}

}  // namespace grapnel
