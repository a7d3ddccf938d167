#include "scan_backward_run.cuh"

namespace mmvim::cuda {
template cudaError_t run_backward<__nv_bfloat16>(const BackwardWork&, void*, cudaStream_t);
}
