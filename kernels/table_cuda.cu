// CUDA devices: memory, copies, one stream a device, graphs. The kernels are those of NAME/cuda.cu.
//
// Everything runs on one stream a device, whatever host thread asks: what one thread frees, another may take
// at once. Memory comes from the driver's stream-ordered pool, which keeps what is freed. Copies from and to
// the host go by blocks of pinned memory (common/staging.h). Only a thread that captures a graph has a stream
// of its own, on which nothing runs; others go on meanwhile.
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/graph_memory.h"
#include "grapnel/kernels/common/hopper.cuh"
#include "grapnel/kernels/common/index_fault.h"
#include "grapnel/kernels/common/staging.h"

namespace grapnel {

struct kernels::Graph {
  Graph(int at, GraphMemory::Take from, GraphMemory::Give to) : device(at), memory(at, from, to) {}

  int device;
  GraphMemory memory;
  cudaStream_t capture = nullptr;  // while it is recorded
  cudaGraphExec_t work = nullptr;
};

namespace {

using kernels::DeviceFault;
using kernels::Graph;
using kernels::GraphMemory;
using kernels::GraphPhase;
using kernels::Staging;

constexpr int kMostDevices = 64;

thread_local cudaStream_t capture_stream = nullptr;  // of the graph this thread captures

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw DeviceFault(std::string(what) + ": " + cudaGetErrorString(error));
}

kernels::IndexFault* faults[kMostDevices];  // of each device that has a stream

/// What runs on a device.
cudaStream_t stream_of(int device) {
  static std::once_flag made[kMostDevices];
  static cudaStream_t streams[kMostDevices];
  std::call_once(made[device], [device] {
    check(cudaSetDevice(device), "choosing a device");
    check(cudaStreamCreateWithFlags(&streams[device], cudaStreamNonBlocking), "making a stream");
    cudaMemPool_t pool;
    std::uint64_t keep_all = UINT64_MAX;
    check(cudaDeviceGetDefaultMemPool(&pool, device), "finding the memory pool");
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_all),
          "setting up the memory pool");
    void* fault = nullptr;
    check(cudaHostAlloc(&fault, sizeof(kernels::IndexFault), cudaHostAllocMapped | cudaHostAllocPortable),
          "taking memory that host and device see");
    faults[device] = new (fault) kernels::IndexFault;
  });
  return streams[device];
}

int device_count(std::string* why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count < kMostDevices ? count : kMostDevices;
  cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    const auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
    *why = driver == 0 ? "this machine has no NVIDIA driver"
                       : "the NVIDIA driver is for CUDA " + version(driver) + ", too old for CUDA " +
                             version(CUDART_VERSION) + " of this build";
  } else if (error == cudaSuccess || error == cudaErrorNoDevice) {
    *why = "this machine has no CUDA device";
  } else {
    *why = cudaGetErrorString(error);
  }
  return 0;
}

void synchronize(int device) {
  GraphMemory::refuse("waiting for the device");
  check(cudaStreamSynchronize(stream_of(device)), "waiting for the device");
  kernels::throw_fault(*faults[device]);
}

void* take_memory(int device, std::size_t bytes) {
  const cudaStream_t stream = stream_of(device);
  void* data = nullptr;
  cudaError_t error = cudaMallocAsync(&data, bytes, stream);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    synchronize(device);
    cudaMemPool_t pool;
    check(cudaDeviceGetDefaultMemPool(&pool, device), "finding the memory pool");
    check(cudaMemPoolTrimTo(pool, 0), "giving memory back");
    error = cudaMallocAsync(&data, bytes, stream);
  }
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "taking memory");
  return data;
}

void give_memory(int device, void* data, std::size_t) noexcept {
  // An error here is one that a kernel left behind, or the end of the program.
  cudaFreeAsync(data, stream_of(device));
}

void* allocate(int device, std::size_t bytes) {
  GraphMemory* graph = GraphMemory::current();
  return graph ? graph->take(device, bytes) : take_memory(device, bytes);
}

void release(int device, void* data, std::size_t bytes) noexcept {
  if (!GraphMemory::take_back(data)) give_memory(device, data, bytes);
}

/// What this thread's kernels and copies on a device go to.
cudaStream_t stream_for(int device) {
  return capture_stream ? capture_stream : stream_of(device);
}

/// Pinned for all devices, with an event of this one.
Staging::Block make_block(int device, std::size_t bytes) {
  stream_of(device);
  int before = 0;
  Staging::Block block;
  cudaEvent_t event = nullptr;
  bool made = cudaGetDevice(&before) == cudaSuccess && cudaSetDevice(device) == cudaSuccess;
  made = made && cudaHostAlloc(&block.data, bytes, cudaHostAllocPortable) == cudaSuccess;
  if (made && cudaEventCreateWithFlags(&event, cudaEventDisableTiming) != cudaSuccess) {
    made = false;
    cudaFreeHost(block.data);
  }
  if (!made) {
    cudaGetLastError();
    block.data = nullptr;
  }
  block.event = event;
  check(cudaSetDevice(before), "choosing a device");
  return block;
}

// Nobody captures where these are called: they need no stream but the device's own.
void start_copy(int device, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  check(cudaMemcpyAsync(to, from, bytes, kind, stream_of(device)), "copying");
}
void start_to_device(int device, void* to, const void* from, std::size_t bytes) {
  start_copy(device, to, from, bytes, cudaMemcpyHostToDevice);
}
void start_to_host(int device, void* to, const void* from, std::size_t bytes) {
  start_copy(device, to, from, bytes, cudaMemcpyDeviceToHost);
}
void record(int device, void* event) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), stream_of(device)), "marking the end of a copy");
}
void wait_for(int device, void* event) {
  check(event ? cudaEventSynchronize(static_cast<cudaEvent_t>(event))
              : cudaStreamSynchronize(stream_of(device)),
        "waiting for the device");
}

/// 16 MiB of pinned memory at most, where large copies are made, and 256 KiB for small ones.
Staging& staging_of(int device) {
  static std::once_flag made[kMostDevices];
  static Staging* all[kMostDevices];  // never gone: others may copy at the very end of the program
  std::call_once(made[device], [device] {
    const Staging::Calls calls{make_block, start_to_device, start_to_host, record, wait_for};
    all[device] = new Staging(device, calls, {.small = 64 << 10, .large = 4 << 20, .blocks = 4});
  });
  return *all[device];
}

void copy_to_device(int device, void* to, const void* from, std::size_t bytes) {
  GraphMemory::refuse("a copy from the CPU");
  staging_of(device).to_device(to, from, bytes);
}

void copy_to_host(int device, void* to, const void* from, std::size_t bytes) {
  GraphMemory::refuse("a copy to the CPU");
  staging_of(device).to_host(to, from, bytes);
  kernels::throw_fault(*faults[device]);
}

void copy_between(int to_device, void* to, int from_device, const void* from, std::size_t bytes) {
  if (to_device == from_device)
    return check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_for(to_device)),
                 "copying");
  synchronize(from_device);
  check(cudaMemcpyPeerAsync(to, to_device, from, from_device, bytes, stream_of(to_device)), "copying");
  // The source may be freed as soon as this returns.
  synchronize(to_device);
}

void check_index(int device, const char* operation, std::int64_t size, std::int64_t count,
                 const std::int64_t* index) {
  stream_of(device);
  kernels::find_index_fault(faults[device], operation, size, count, index);
}

void select(int device) {
  GraphMemory::refuse("work on several devices");
  check(cudaSetDevice(device), "choosing a device");
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  return device;
}

// Each architecture's code has an answer of its own.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
__device__ bool code_is_for_hopper = true;
#else
__device__ bool code_is_for_hopper = false;
#endif

Graph* make_graph(int device) {
  return new Graph(device, take_memory, give_memory);
}

void begin_graph(Graph* graph, GraphPhase phase) {
  graph->memory.enter(phase);
  if (phase == GraphPhase::rehearsal) return;
  check(cudaStreamCreateWithFlags(&graph->capture, cudaStreamNonBlocking), "making a stream");
  // Of this thread only: others may go on to take memory and to wait.
  check(cudaStreamBeginCapture(graph->capture, cudaStreamCaptureModeThreadLocal), "starting to capture");
  capture_stream = graph->capture;
}

/// What was captured; null if it cannot be used.
cudaGraph_t stop_capture(Graph* graph, cudaError_t* error) noexcept {
  cudaGraph_t captured = nullptr;
  *error = cudaStreamEndCapture(graph->capture, &captured);
  if (capture_stream == graph->capture) capture_stream = nullptr;
  cudaStreamDestroy(graph->capture);
  graph->capture = nullptr;
  return captured;
}

void end_graph(Graph* graph) {
  graph->memory.leave();
  if (!graph->capture) {
    if (graph->memory.held()) throw DeviceFault("work that keeps memory cannot be captured in a graph");
    return;
  }
  cudaError_t error = cudaSuccess;
  const cudaGraph_t captured = stop_capture(graph, &error);
  check(error, "capturing");
  error = cudaGraphInstantiate(&graph->work, captured, 0);
  cudaGraphDestroy(captured);
  check(error, "making a graph of what was captured");
}

void replay_graph(Graph* graph) {
  check(cudaGraphLaunch(graph->work, stream_of(graph->device)), "starting a graph");
}

void free_graph(Graph* graph) noexcept {
  if (graph->capture) {  // something went wrong in between
    cudaError_t error = cudaSuccess;
    if (const cudaGraph_t captured = stop_capture(graph, &error)) cudaGraphDestroy(captured);
    cudaGetLastError();
  }
  if (graph->work) cudaGraphExecDestroy(graph->work);  // what runs ends first
  delete graph;
}

}  // namespace

bool device::has_hopper() {
  static std::once_flag asked[kMostDevices];
  static bool answers[kMostDevices];
  const int device = current_device();
  std::call_once(asked[device], [device] {
    check(cudaMemcpyFromSymbolAsync(&answers[device], code_is_for_hopper, sizeof(bool), 0,
                                    cudaMemcpyDeviceToHost, stream_of(device)),
          "asking for the device's code");
    synchronize(device);
  });
  return answers[device];
}

bool device::launches_overlap() {
  static const bool wanted = [] {
    const char* const choice = std::getenv("GRAPNEL_DEPENDENT_LAUNCHES");
    if (choice && std::string(choice) == "0") return false;
    // Graphs have such edges since CUDA 12.3.
    int driver = 0;
    return CUDART_VERSION >= 12030 && cudaDriverGetVersion(&driver) == cudaSuccess && driver >= 12030;
  }();
  return wanted && has_hopper();
}

cudaStream_t device::current_stream() {
  return stream_for(current_device());
}

device::Workspace::Workspace(std::size_t bytes)
    : bytes_(bytes), data_(bytes == 0 ? nullptr : allocate(current_device(), bytes)) {
  if (bytes > 0 && !data_)
    throw DeviceFault(kernels::out_of_memory("cuda:" + std::to_string(current_device()), bytes));
}

device::Workspace::~Workspace() {
  int device = 0;
  if (data_ && cudaGetDevice(&device) == cudaSuccess) release(device, data_, bytes_);
}

const kernels::Accelerator* kernels::cuda_accelerator() {
  static const Table table = make_cuda_table();
  static const Accelerator cuda{device_count, allocate,    release,      copy_to_device, copy_to_host,
                                copy_between, synchronize, check_index,  select,         make_graph,
                                begin_graph,  end_graph,   replay_graph, free_graph,     &table};
  return &cuda;
}

}  // namespace grapnel
