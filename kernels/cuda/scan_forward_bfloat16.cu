#include "scan_forward.cuh"

namespace mmvim::cuda {
template cudaError_t launch_scan<__nv_bfloat16>(const ForwardArguments&, cudaStream_t);
template cudaError_t launch_scan_aggregate<__nv_bfloat16>(const ForwardArguments&, cudaStream_t);
}  // namespace mmvim::cuda
