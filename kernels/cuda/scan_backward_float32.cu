#include "scan_backward_run.cuh"

namespace mmvim::cuda {
template cudaError_t run_backward<float>(const BackwardWork&, void*, cudaStream_t);
}
