#include "scan_forward.cuh"

namespace mmvim::cuda {
template cudaError_t launch_scan<__half>(const ForwardArguments&, cudaStream_t);
template cudaError_t launch_scan_aggregate<__half>(const ForwardArguments&, cudaStream_t);
}  // namespace mmvim::cuda
