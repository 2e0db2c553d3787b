// CUDA devices: memory, copies, one stream a device. The kernels are those of NAME/cuda.cu.
//
// Everything runs on one stream a device, whatever host thread asks: what one thread frees, another may take
// at once. Memory comes from the driver's stream-ordered pool, which keeps what is freed.
#include <cstdint>
#include <mutex>

#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/hopper.cuh"

namespace grapnel {
namespace {

using kernels::DeviceFault;

constexpr int kMostDevices = 64;

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw DeviceFault(std::string(what) + ": " + cudaGetErrorString(error));
}

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
  check(cudaStreamSynchronize(stream_of(device)), "waiting for the device");
}

void* allocate(int device, std::size_t bytes) {
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

void release(int device, void* data, std::size_t) noexcept {
  // An error here is one that a kernel left behind, or the end of the program.
  cudaFreeAsync(data, stream_of(device));
}

void copy(int device, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  check(cudaMemcpyAsync(to, from, bytes, kind, stream_of(device)), "copying");
}

void copy_to_device(int device, void* to, const void* from, std::size_t bytes) {
  copy(device, to, from, bytes, cudaMemcpyHostToDevice);
}

void copy_to_host(int device, void* to, const void* from, std::size_t bytes) {
  copy(device, to, from, bytes, cudaMemcpyDeviceToHost);
  synchronize(device);
}

void copy_between(int to_device, void* to, int from_device, const void* from, std::size_t bytes) {
  if (to_device != from_device) synchronize(from_device);
  check(cudaMemcpyPeerAsync(to, to_device, from, from_device, bytes, stream_of(to_device)), "copying");
  // The source may be freed as soon as this returns.
  if (to_device != from_device) synchronize(to_device);
}

void select(int device) {
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

cudaStream_t device::current_stream() {
  return stream_of(current_device());
}

device::Workspace::Workspace(std::size_t bytes)
    : bytes_(bytes), data_(bytes == 0 ? nullptr : allocate(current_device(), bytes)) {
  if (bytes > 0 && !data_)
    throw DeviceFault("out of memory: " + std::to_string(bytes) + " bytes were asked for");
}

device::Workspace::~Workspace() {
  int device = 0;
  if (data_ && cudaGetDevice(&device) == cudaSuccess) release(device, data_, bytes_);
}

const kernels::Accelerator* kernels::cuda_accelerator() {
  static const Table table = make_cuda_table();
  static const Accelerator cuda{device_count, allocate,    release, copy_to_device, copy_to_host,
                                copy_between, synchronize, select,  &table};
  return &cuda;
}

}  // namespace grapnel
