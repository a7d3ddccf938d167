#include "scan_backward_run.cuh"

namespace mmvim::cuda {
template cudaError_t run_backward<__half>(const BackwardWork&, void*, cudaStream_t);
}
