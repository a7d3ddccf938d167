#include "scan_forward.cuh"

namespace mmvim::cuda {
template cudaError_t launch_scan<float>(const ForwardArguments&, cudaStream_t);
template cudaError_t launch_scan_aggregate<float>(const ForwardArguments&, cudaStream_t);
}  // namespace mmvim::cuda
