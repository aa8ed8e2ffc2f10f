// Every kernel, compiled for one instruction set: this file is compiled once per set with UFB_INSTRUCTION_SET naming its namespace
// (baseline, avx2, avx512; neon, dotprod, i8mm). Kernel files are included inside that namespace, so that no wide instruction leaks out of it.
#include "kernel.h"
// Nothing but functions that are always inlined.
#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ufb {
namespace UFB_INSTRUCTION_SET {

#include "simd.h"
#include "simd_math.h"
#include "vectors.h"
#include "fill.h"
#include "copy.h"
#include "add.h"
#include "add_rows.h"
#include "gelu.h"
#include "gelu_tanh.h"
#include "silu.h"
#include "relu.h"
#include "tanh.h"
#include "dropout.h"
#include "multiply.h"
#include "strided_copy.h"
#include "layer_norm.h"
#include "rms_norm.h"
#include "rotary.h"
#include "bf16.h"
#include "quantize.h"
#include "products.h"
#include "matrix_packing.h"
#include "matrix_multiply.h"
#include "linear.h"
#include "scatter.h"
#include "attention.h"
#include "gather.h"
#include "scatter_rows.h"
#include "fff_nodes.h"
#include "prepared_linear.h"
#include "fff.h"
#include "fff_backward.h"
#include "fff_splits.h"
#include "conditional_matmul.h"
#include "pool.h"
#include "cross_entropy.h"
#include "squared_error.h"
#include "sum.h"
#include "column_mean.h"
#include "clip.h"
#include "adamw.h"
#include "clear_rows.h"

extern const KernelEntry kernels[];
const KernelEntry kernels[] = {
    {"fill", fill},
    {"fillIntegers", fillIntegers},
    {"copy", copy},
    {"stridedCopy", stridedCopy},
    {"add", add},
    {"addRow", addRow},
    {"multiply", multiplyElements},
    {"gelu", gelu},
    {"geluBackward", geluBackward},
    {"geluTanh", geluTanh},
    {"geluTanhBackward", geluTanhBackward},
    {"silu", silu},
    {"siluBackward", siluBackward},
    {"relu", relu},
    {"reluBackward", reluBackward},
    {"tanh", tanhForward},
    {"tanhBackward", tanhBackward},
    {"dropout", dropout},
    {"layerNorm", layerNorm},
    {"layerNormBackward", layerNormBackward},
    {"rmsNorm", rmsNorm},
    {"rmsNormBackward", rmsNormBackward},
    {"rotary", rotary},
    {"linear", linear},
    {"prepareLinear", prepareLinear},
    {"linearPrepared", linearPrepared},
    {"linearBackwardInput", linearBackwardInput},
    {"linearBackwardWeight", linearBackwardWeight},
    {"attention", attention},
    {"attentionBackward", attentionBackward},
    {"gather", gather},
    {"scatterAdd", scatterAdd},
    {"scatterRows", scatterRows},
    {"gatherScaleBackward", gatherScaleBackward},
    {"fff", fff},
    {"fffPrepared", fffPrepared},
    {"fffBackward", fffBackward},
    {"countSplits", countSplits},
    {"balanceThresholds", balanceThresholds},
    {"prepareNodes", prepareNodes},
    {"conditionalMatmul", conditionalMatmul},
    {"conditionalMatmulBackwardInput", conditionalMatmulBackwardInput},
    {"conditionalMatmulBackwardWeight", conditionalMatmulBackwardWeight},
    {"pool", pool},
    {"poolBackward", poolBackward},
    {"crossEntropy", crossEntropy},
    {"squaredError", squaredError},
    {"sum", sum},
    {"columnMean", columnMean},
    {"sumOfSquares", sumOfSquares},
    {"clipScale", clipScale},
    {"adamw", adamw},
    {"clearRows", clearRows},
    {"addRows", addRows},
    {nullptr, nullptr},
};

}  // namespace UFB_INSTRUCTION_SET
}  // namespace ufb
