// One TPC engine running one kernel. Included by the wrapper of each kernel, after the kernel's text.
#pragma once

#include "tpc/runtime.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace tpcgen::rt::detail {

// The device flushes denormals (toolchain.md 1.5); the caller's floating-point mode is restored on the way out.
class FlushDenormals {
public:
#if defined(__x86_64__)
    FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
    ~FlushDenormals() { _mm_setcsr(saved_); }

private:
    unsigned saved_;
#elif defined(__aarch64__)
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        asm volatile("msr fpcr, %0" : : "r"(saved_ | (1ull << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

private:
    uint64_t saved_;
#endif
};

// Takes pieces of a launch until none is left. Descriptors are set anew for every piece: a kernel that changes one
// (set_dim_size, set_pad_value) changes it for its own piece only.
inline void execute(const Launch& launch, void (*run)(const uint32_t* scalars)) {
    const FlushDenormals mode;
    context.tensors = launch.count;
    context.rmw_lock = launch.rmw_lock;
    const int32_t end = launch.geometry[launch.split_dim];
    for (;;) {
        const int32_t first = __atomic_fetch_add(launch.next, launch.step, __ATOMIC_RELAXED);
        if (first >= end) {
            return;
        }
        std::memcpy(context.tensor, launch.tensors, sizeof(Tensor) * launch.count);
        std::memset(context.offset, 0, sizeof(context.offset));
        std::memcpy(context.size, launch.geometry, sizeof(context.size));
        context.offset[launch.split_dim] = first;
        context.size[launch.split_dim] = end - first < launch.step ? end - first : launch.step;
        run(launch.scalars);
    }
}

}  // namespace tpcgen::rt::detail
