// The boundary between TPC-C intrinsics on the host and the device that runs them.
//
// Intrinsics call the functions of namespace tpcgen::rt; nothing else touches tensors, local memory or the index space.
// TPCGEN_STRICT=1: every call goes through a table of the auditing device. Otherwise all is inline and unaudited.
// A loaded library is one TPC engine: `context` belongs to the copy of the library that the engine loaded, so two
// threads never share it (the device loads one copy per thread), and file-scope variables of a kernel are that
// engine's local memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#ifndef TPCGEN_STRICT
#define TPCGEN_STRICT 0
#endif

namespace tpcgen::rt {

inline constexpr int kMaxDims = 5;
inline constexpr int kMaxTensors = 16;
inline constexpr int kMaxScalars = 32;
inline constexpr uint32_t kVlmBytes = 80 * 1024;
inline constexpr uint32_t kVlmBytesWithLookup = 16 * 1024;
inline constexpr uint32_t kSlmBytesMax = 16 * 1024;
inline constexpr uint32_t kRuntimeAbi = 3;

// A `tensor` parameter of main: the number of a descriptor. types.h: `using tensor = tpcgen::rt::TensorId;`
struct TensorId {
    int8_t number;
    constexpr TensorId(int n = 0) : number(static_cast<int8_t>(n)) {}
    constexpr operator int() const { return number; }
};

// Sizes and strides in elements, dim 0 fastest; dims at or above rank have size 1.
struct Tensor {
    uint8_t* base;
    int32_t size[kMaxDims];
    int64_t stride[kMaxDims];
    uint32_t rank;
    uint32_t elem;  // bytes of one element
    uint32_t pad;   // bits of the pad value; narrower elements use the low bits
    uint32_t reserved;
};

// Address in global memory. Carries the tensor it came from while it stays a GlobalPtr; -1 after a trip through a raw
// pointer.
struct GlobalPtr {
    uint8_t* address = nullptr;
    int32_t tensor = -1;

    constexpr GlobalPtr() = default;
    constexpr GlobalPtr(uint8_t* a, int32_t t) : address(a), tensor(t) {}
    constexpr GlobalPtr(std::nullptr_t) {}
    constexpr GlobalPtr(int) {}  // income = 0
    template <class T>
    GlobalPtr(T* p) : address(const_cast<uint8_t*>(reinterpret_cast<const volatile uint8_t*>(p))) {}
    template <class T>
    operator T*() const {
        return reinterpret_cast<T*>(address);
    }
    void advance(int64_t bytes) { address += bytes; }
};

// Read-modify-write of one element: *dst = *dst (op) *src.
using Combine = void (*)(void* dst, const void* src);

enum class Fence : int32_t { aso, cache_flush, cache_invalidate };

// Calls of the auditing device; `n` lanes of `elem` bytes along dim 0, `coords` has kMaxDims entries. `direct`: vector
// accesses by address. A `combine` that is null stores.
struct Hooks {
    void (*load)(int tensor, const int32_t* coords, void* dst, int n, int elem);
    void (*store)(int tensor, const int32_t* coords, const void* src, int n, int elem, const uint8_t* lane_mask);
    void (*store_rmw)(int tensor, const int32_t* coords, const void* src, int n, int elem, const uint8_t* lane_mask,
                      Combine combine);
    GlobalPtr (*gen_addr)(int tensor, const int32_t* coords);
    void (*load_g)(const GlobalPtr& from, void* dst, int bytes);
    void (*store_g)(const GlobalPtr& to, const void* src, int bytes);
    void (*load_direct)(const GlobalPtr& from, void* dst, int bytes);
    void (*store_direct)(const GlobalPtr& to, const void* src, int n, int elem, Combine combine);
    void (*load_l)(bool vector, uint32_t address, void* dst, int bytes);
    void (*store_l)(bool vector, uint32_t address, const void* src, int bytes, const uint8_t* byte_mask);
    void (*fence)(Fence kind);
    void (*note_lookup)(const char* function);
    void (*local_read)(const void* address, uint32_t bytes);
    void (*local_write)(const void* address, uint32_t bytes);
    void (*bad_tensor)(int tensor);
    void (*private_table)();
};

struct Context {
    Tensor tensor[kMaxTensors];
    int32_t offset[kMaxDims];
    int32_t size[kMaxDims];
    uint32_t tensors;
    uint32_t reserved;
    const Hooks* hooks;    // strict only
    uintptr_t local_base;  // strict: range that holds the kernel's file-scope variables
    uintptr_t local_bytes;
    volatile int32_t* rmw_lock;           // shared by all engines
    alignas(256) uint8_t vlm[kVlmBytes];  // memory addressed by number (ld_l, st_l), fast mode
    alignas(256) uint8_t slm[kSlmBytesMax];
};

// One per loaded copy; hidden, so that copies in one process never merge.
__attribute__((visibility("hidden"))) inline constinit Context context{};

// ---------------------------------------------------------------------------------------------------------------
// Index space

inline const int32_t* index_space_offset() {
    return context.offset;
}
inline const int32_t* index_space_size() {
    return context.size;
}

// ---------------------------------------------------------------------------------------------------------------
// Descriptors

inline Tensor& descriptor(int tensor) {
#if TPCGEN_STRICT
    if (static_cast<uint32_t>(tensor) >= context.tensors) {
        context.hooks->bad_tensor(tensor);  // does not return
    }
#endif
    return context.tensor[tensor & (kMaxTensors - 1)];
}
inline uint32_t dim_size(int tensor, uint32_t dim) {
    return static_cast<uint32_t>(descriptor(tensor).size[dim % kMaxDims]);
}
inline void set_dim_size(int tensor, uint32_t dim, uint32_t value) {
    descriptor(tensor).size[dim % kMaxDims] = static_cast<int32_t>(value);
}
inline uint32_t dim_stride(int tensor, uint32_t dim) {
    return static_cast<uint32_t>(descriptor(tensor).stride[dim % kMaxDims]);
}
inline void set_dim_stride(int tensor, uint32_t dim, uint32_t value) {
    descriptor(tensor).stride[dim % kMaxDims] = value;
}
inline uint32_t pad_value(int tensor) {
    return descriptor(tensor).pad;
}
inline void set_pad_value(int tensor, uint32_t bits) {
    descriptor(tensor).pad = bits;
}

// ---------------------------------------------------------------------------------------------------------------
// Vector access. Lanes outside the tensor in any dim read the pad value; stores to them are dropped.

namespace detail {

struct Row {
    uint8_t* first;  // address of lane 0, meaningful for lanes [begin, end)
    int begin;
    int end;
};

inline bool outer_inside(const Tensor& t, const int32_t* c) {
    return static_cast<uint32_t>(c[1]) < static_cast<uint32_t>(t.size[1]) &&
           static_cast<uint32_t>(c[2]) < static_cast<uint32_t>(t.size[2]) &&
           static_cast<uint32_t>(c[3]) < static_cast<uint32_t>(t.size[3]) &&
           static_cast<uint32_t>(c[4]) < static_cast<uint32_t>(t.size[4]);
}

inline int64_t element_offset(const Tensor& t, const int32_t* c) {
    return c[0] * t.stride[0] + c[1] * t.stride[1] + c[2] * t.stride[2] + c[3] * t.stride[3] + c[4] * t.stride[4];
}

inline Row clip(const Tensor& t, const int32_t* c, int n, int elem) {
    if (!outer_inside(t, c)) {
        return {nullptr, 0, 0};
    }
    const int64_t begin = c[0] < 0 ? -static_cast<int64_t>(c[0]) : 0;
    const int64_t room = static_cast<int64_t>(t.size[0]) - c[0];
    const int64_t end = room < n ? room : n;
    if (begin >= end) {
        return {nullptr, 0, 0};
    }
    return {t.base + element_offset(t, c) * elem, static_cast<int>(begin), static_cast<int>(end)};
}

inline void fill_pad(void* dst, int n, int elem, uint32_t bits) {
    auto* out = static_cast<uint8_t*>(dst);
    for (int i = 0; i < n; ++i) {
        std::memcpy(out + static_cast<int64_t>(i) * elem, &bits, elem < 4 ? elem : 4);
    }
}

__attribute__((noinline, cold)) inline void load_clipped(const Tensor& t, const int32_t* c, void* dst, int n,
                                                         int elem) {
    fill_pad(dst, n, elem, t.pad);
    const Row row = clip(t, c, n, elem);
    if (row.begin < row.end) {
        std::memcpy(static_cast<uint8_t*>(dst) + row.begin * elem, row.first + row.begin * elem,
                    static_cast<size_t>(row.end - row.begin) * elem);
    }
}

__attribute__((noinline, cold)) inline void store_clipped(const Tensor& t, const int32_t* c, const void* src, int n,
                                                          int elem, const uint8_t* lane_mask) {
    const Row row = clip(t, c, n, elem);
    const auto* in = static_cast<const uint8_t*>(src);
    if (lane_mask == nullptr) {
        if (row.begin < row.end) {
            std::memcpy(row.first + row.begin * elem, in + row.begin * elem,
                        static_cast<size_t>(row.end - row.begin) * elem);
        }
        return;
    }
    for (int i = row.begin; i < row.end; ++i) {
        if (lane_mask[i]) {
            std::memcpy(row.first + i * elem, in + i * elem, static_cast<size_t>(elem));
        }
    }
}

__attribute__((noinline)) inline void rmw_row(const Row& row, const void* src, int elem, const uint8_t* lane_mask,
                                              Combine combine) {
    const auto* in = static_cast<const uint8_t*>(src);
    while (context.rmw_lock != nullptr && __atomic_exchange_n(context.rmw_lock, 1, __ATOMIC_ACQUIRE) != 0) {
    }
    for (int i = row.begin; i < row.end; ++i) {
        if (lane_mask == nullptr || lane_mask[i]) {
            combine(row.first + i * elem, in + i * elem);
        }
    }
    if (context.rmw_lock != nullptr) {
        __atomic_store_n(context.rmw_lock, 0, __ATOMIC_RELEASE);
    }
}

}  // namespace detail

__attribute__((always_inline)) inline void load(int tensor, const int32_t* coords, void* dst, int n, int elem) {
#if TPCGEN_STRICT
    context.hooks->load(tensor, coords, dst, n, elem);
#else
    const Tensor& t = descriptor(tensor);
    if (__builtin_expect(detail::outer_inside(t, coords) && coords[0] >= 0 && coords[0] <= t.size[0] - n, 1)) {
        std::memcpy(dst, t.base + detail::element_offset(t, coords) * elem, static_cast<size_t>(n) * elem);
        return;
    }
    detail::load_clipped(t, coords, dst, n, elem);
#endif
}

// lane_mask: one byte a lane, nullptr for all lanes.
__attribute__((always_inline)) inline void store(int tensor, const int32_t* coords, const void* src, int n, int elem,
                                                 const uint8_t* lane_mask = nullptr) {
#if TPCGEN_STRICT
    context.hooks->store(tensor, coords, src, n, elem, lane_mask);
#else
    const Tensor& t = descriptor(tensor);
    if (__builtin_expect(
            lane_mask == nullptr && detail::outer_inside(t, coords) && coords[0] >= 0 && coords[0] <= t.size[0] - n,
            1)) {
        std::memcpy(t.base + detail::element_offset(t, coords) * elem, src, static_cast<size_t>(n) * elem);
        return;
    }
    detail::store_clipped(t, coords, src, n, elem, lane_mask);
#endif
}

// Elementwise dst = combine(dst, src); several members may target one element.
inline void store_rmw(int tensor, const int32_t* coords, const void* src, int n, int elem, const uint8_t* lane_mask,
                      Combine combine) {
#if TPCGEN_STRICT
    context.hooks->store_rmw(tensor, coords, src, n, elem, lane_mask, combine);
#else
    detail::rmw_row(detail::clip(descriptor(tensor), coords, n, elem), src, elem, lane_mask, combine);
#endif
}

// ---------------------------------------------------------------------------------------------------------------
// Global memory by address

inline GlobalPtr gen_addr(int tensor, const int32_t* coords) {
#if TPCGEN_STRICT
    return context.hooks->gen_addr(tensor, coords);
#else
    const Tensor& t = descriptor(tensor);
    return {t.base + detail::element_offset(t, coords) * t.elem, tensor};
#endif
}
inline void load_g(const GlobalPtr& from, void* dst, int bytes) {
#if TPCGEN_STRICT
    context.hooks->load_g(from, dst, bytes);
#else
    std::memcpy(dst, from.address, static_cast<size_t>(bytes));
#endif
}
inline void store_g(const GlobalPtr& to, const void* src, int bytes) {
#if TPCGEN_STRICT
    context.hooks->store_g(to, src, bytes);
#else
    std::memcpy(to.address, src, static_cast<size_t>(bytes));
#endif
}

inline void load_direct(const GlobalPtr& from, void* dst, int bytes) {
#if TPCGEN_STRICT
    context.hooks->load_direct(from, dst, bytes);
#else
    std::memcpy(dst, from.address, static_cast<size_t>(bytes));
#endif
}
inline void store_direct(const GlobalPtr& to, const void* src, int n, int elem, Combine combine) {
#if TPCGEN_STRICT
    context.hooks->store_direct(to, src, n, elem, combine);
#else
    if (combine != nullptr) {
        detail::rmw_row({to.address, 0, n}, src, elem, nullptr, combine);
        return;
    }
    std::memcpy(to.address, src, static_cast<size_t>(n) * elem);
#endif
}

// ---------------------------------------------------------------------------------------------------------------
// Local memory by number (s_*_ld_l, v_*_st_l_v, ...). `vector` picks VLM or SLM.

inline void load_l(bool vector, uint32_t address, void* dst, int bytes) {
#if TPCGEN_STRICT
    context.hooks->load_l(vector, address, dst, bytes);
#else
    const uint8_t* memory = vector ? context.vlm : context.slm;
    const uint32_t limit = vector ? kVlmBytes : kSlmBytesMax;
    std::memcpy(dst, memory + (address <= limit - bytes ? address : 0), static_cast<size_t>(bytes));
#endif
}
// byte_mask: one byte per byte of src, nullptr for all.
inline void store_l(bool vector, uint32_t address, const void* src, int bytes, const uint8_t* byte_mask = nullptr) {
#if TPCGEN_STRICT
    context.hooks->store_l(vector, address, src, bytes, byte_mask);
#else
    uint8_t* memory = vector ? context.vlm : context.slm;
    const uint32_t limit = vector ? kVlmBytes : kSlmBytesMax;
    uint8_t* to = memory + (address <= limit - bytes ? address : 0);
    for (int i = 0; i < bytes; ++i) {
        if (byte_mask == nullptr || byte_mask[i]) {
            to[i] = static_cast<const uint8_t*>(src)[i];
        }
    }
#endif
}

// ---------------------------------------------------------------------------------------------------------------
// Ordering and resources

inline void fence(Fence kind) {
#if TPCGEN_STRICT
    context.hooks->fence(kind);
#else
    static_cast<void>(kind);
#endif
}
inline void aso() {
    fence(Fence::aso);
}
inline void cache_flush() {
    fence(Fence::cache_flush);
}
inline void cache_invalidate() {
    fence(Fence::cache_invalidate);
}

// Every intrinsic or library function that uses LOOKUP calls this first: VLM shrinks to 16 KB (toolchain.md 1.3).
inline void note_lookup(const char* function) {
#if TPCGEN_STRICT
    context.hooks->note_lookup(function);
#else
    static_cast<void>(function);
#endif
}

#if TPCGEN_STRICT
// Strict kernels are not optimised: that a table is one whose contents are not public shows when it is looked up.
inline void private_table() {
    context.hooks->private_table();  // does not return
}
#endif

// Base class of every vector and predicate type (`struct float64 : rt::Cell<256> {...}`); Bytes = sizeof the type.
// Fast: empty and trivial. Strict: a copy from a kernel's file-scope variable (local memory) is a read, a copy or
// construction into one a write; so reads of uninitialised local memory are found. For that, vectors are passed to
// intrinsics and operators by value, and the type's own copy constructor and assignment are defaulted. A default
// constructor must leave the value uninitialised (it is no write); constructors that set a value call mark_written().
template <uint32_t Bytes>
struct Cell {
#if TPCGEN_STRICT
    Cell() = default;
    Cell(const Cell& other) {
        other.mark_read();
        mark_written();
    }
    Cell& operator=(const Cell& other) {
        other.mark_read();
        mark_written();
        return *this;
    }
    void mark_read() const {
        if (reinterpret_cast<uintptr_t>(this) - context.local_base < context.local_bytes) {
            context.hooks->local_read(this, Bytes);
        }
    }
    void mark_written() const {
        if (reinterpret_cast<uintptr_t>(this) - context.local_base < context.local_bytes) {
            context.hooks->local_write(this, Bytes);
        }
    }
#else
    void mark_read() const {}
    void mark_written() const {}
#endif
};

// ---------------------------------------------------------------------------------------------------------------
// What a library exports per kernel

// A file-scope variable of the kernel, that is local memory.
struct Local {
    const char* name;
    void* address;
    uint64_t bytes;
    uint32_t vector;       // 1: VLM, 0: SLM
    uint32_t initialised;  // 1: has an initialiser or is const
};

struct Piece {
    int32_t offset[kMaxDims];
    int32_t size[kMaxDims];
};

// One launch, shared by the engines that work on it: the index space cut along one dim, taken piece by piece.
struct Launch {
    const Tensor* tensors;
    const uint32_t* scalars;
    uint32_t count;  // of tensors
    uint32_t split_dim;
    int32_t geometry[kMaxDims];
    int32_t step;            // members of split_dim per piece
    volatile int32_t* next;  // first member not yet taken
    volatile int32_t* rmw_lock;
};

struct Kernel {
    const char* name;
    void (*run)(const uint32_t* scalars);   // the piece and the descriptors that `context` holds
    void (*execute)(const Launch* launch);  // take pieces until none is left
    uint32_t tensors;                       // `tensor` parameters of main
    uint32_t scalars;                       // the others
    const Local* locals;
    uint32_t local_count;
    uint32_t abi;  // kRuntimeAbi
    uint32_t strict;
    Context* context;
};

namespace detail {

// Vectors, predicates and tuples of vectors live in VLM, everything else in SLM.
template <class T>
struct in_vlm : std::bool_constant<std::is_class_v<T> && sizeof(T) >= 256> {};
template <class T, size_t N>
struct in_vlm<T[N]> : in_vlm<T> {};

template <class T>
inline T scalar(uint32_t bits) {
    static_assert(sizeof(T) <= 4, "a scalar parameter of main is a 32-bit word or narrower");
    T value;
    std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
    return value;
}

template <class T>
inline constexpr bool is_tensor = std::is_same_v<std::remove_cv_t<T>, TensorId>;

// main's parameters: tensors first, then scalars (toolchain.md 1.4).
template <class... P>
struct Signature {
    static constexpr uint32_t tensors = (0u + ... + (is_tensor<P> ? 1u : 0u));
    static constexpr uint32_t scalars = static_cast<uint32_t>(sizeof...(P)) - tensors;
    static constexpr bool ordered() {
        bool scalar_seen = false, ok = true;
        ((is_tensor<P> ? (ok = ok && !scalar_seen) : (scalar_seen = true)), ...);
        return ok;
    }
    static_assert(tensors <= kMaxTensors, "main takes at most 16 tensors");
    static_assert(scalars <= kMaxScalars, "main takes at most 32 scalars");
};

template <class R, class... P>
constexpr Signature<P...> signature_of(R (*)(P...)) {
    return {};
}

template <class P>
inline std::remove_cv_t<P> argument(uint32_t position, uint32_t tensors, const uint32_t* scalars) {
    if constexpr (is_tensor<P>) {
        return TensorId(static_cast<int>(position));
    } else {
        return scalar<std::remove_cv_t<P>>(scalars[position - tensors]);
    }
}

template <class R, class... P>
inline void call(R (*function)(P...), const uint32_t* scalars) {
    static_assert(Signature<P...>::ordered(), "main takes its tensors first, then its scalars");
    [&]<size_t... I>(std::integer_sequence<size_t, I...>) {
        function(argument<P>(static_cast<uint32_t>(I), Signature<P...>::tensors, scalars)...);
    }(std::make_integer_sequence<size_t, sizeof...(P)>{});
}

}  // namespace detail
}  // namespace tpcgen::rt
