// The strict host device: asks a kernel library's glue for a kernel, runs its index-space members one by one in
// shuffled order and audits every access.
//
// Reads requests from standard input (lines "field values", closed by "run") and answers with JSON lines. Each request
// runs in a forked child with limits, so that nothing a kernel does ends the session. Tensors lie in a file both sides
// map; its first page tells how far the child came, whatever happens to it.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "tpc/engine.h"
#include "tpc_kernel_lib_interface.h"

namespace {

using namespace tpcgen::rt;
namespace glue = tpc_lib_api;

constexpr const char* kElfMark = "TPCGEN-HOST-KERNEL:";
constexpr uint32_t kRmw = 0x80000000u;
constexpr size_t kPage = 4096;
constexpr size_t kGuard = size_t{1} << 20;
constexpr uint32_t kMaxAux = 16;

enum class Phase : uint32_t { start, glue, run, pieces, finish };

// First page of the shared file.
struct Progress {
    uint64_t members_done;
    int32_t member[kMaxDims];
    uint32_t phase;
    uint32_t in_member;
    uint64_t fault_address;
    uint32_t signal;
};

struct TensorSpec {
    uint32_t dtype;  // TensorDataType
    uint32_t rank;
    uint64_t size[kMaxDims];
    uint64_t file_offset;
    bool is_output;
};

struct Request {
    std::string library, glue_library, shared, guid, kernel;
    uint64_t shared_bytes = 0;
    uint32_t device = 0, slm_limit = 1024;
    uint64_t seed = 0, cap = 10;
    uint64_t timeout_ms = 10000, memory_mb = 4096;
    bool sanitize = false;
    std::vector<uint8_t> params;
    std::vector<TensorSpec> tensors;
    std::vector<uint32_t> scalars;  // without glue
    std::vector<int32_t> geometry;  // without glue
    std::vector<int32_t> trace;
};

uint32_t element_bytes(uint32_t dtype) {
    switch (dtype) {
        case glue::DATA_I8:
        case glue::DATA_U8:
        case glue::DATA_F8_152:
        case glue::DATA_F8_143: return 1;
        case glue::DATA_I16:
        case glue::DATA_U16:
        case glue::DATA_BF16:
        case glue::DATA_F16: return 2;
        case glue::DATA_I32:
        case glue::DATA_U32:
        case glue::DATA_F32: return 4;
        case glue::DATA_I64:
        case glue::DATA_U64: return 8;
        default: return 0;
    }
}

// --- answers
// ----------------------------------------------------------------------------------------------------------

int answer_fd = 1;

void answer(const std::string& line) {
    const std::string text = line + "\n";
    for (size_t done = 0; done < text.size();) {
        const ssize_t n = write(answer_fd, text.data() + done, text.size() - done);
        if (n <= 0) {
            return;
        }
        done += static_cast<size_t>(n);
    }
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char code[8];
            snprintf(code, sizeof code, "\\u%04x", c);
            out += code;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

std::string piece(const char* text) {
    return text;
}
std::string piece(const std::string& text) {
    return text;
}
template <class Number>
std::string piece(Number number) {
    return std::to_string(number);
}

template <class... Part>
std::string text(const Part&... part) {
    std::string out;
    ((out += piece(part)), ...);
    return out;
}

template <class It>
std::string list(It first, It last) {
    std::string out = "[";
    for (It it = first; it != last; ++it) {
        out += text(it == first ? "" : ",", *it);
    }
    return out + "]";
}

// --- the audit
// --------------------------------------------------------------------------------------------------------

struct Pattern {
    bool all_required = false;
    bool memset = false;
    uint8_t memset_value[8] = {};
    struct Dim {
        uint32_t index_dim = 0;
        double a = 0, start = 0, end = 0;
        bool all_required = false;
    } dim[kMaxDims];
};

struct TensorAudit {
    std::string name;
    bool is_output = false;
    uint32_t dtype = 0;
    Tensor original{};
    int64_t elements = 0;
    Pattern pattern;
    int64_t lo[kMaxDims], hi[kMaxDims];  // what the present member may touch, inclusive
    std::vector<uint8_t> touched;        // inputs: read by someone
    std::vector<uint32_t> owner;         // outputs: member + 1 that wrote, kRmw if by read-modify-write
    uint64_t loads = 0, stores = 0, padded = 0, dropped = 0;
};

// A store of the present member that a later load of it need not see yet.
struct Pending {
    int tensor;
    int64_t first, last;
    bool by_vector;
    bool landed;  // after aso: visible to vector loads, scalar loads may still hit a stale cache line
};

struct Audit {
    Request request;
    Progress* progress = nullptr;
    const Kernel* kernel = nullptr;
    Context* context = nullptr;
    std::vector<TensorAudit> tensors;
    std::vector<Pending> pending;
    std::vector<std::pair<std::string, uint64_t>> counts;  // findings per kind
    int32_t member[kMaxDims] = {0, 0, 0, 0, 0};
    uint32_t member_number = 0;
    bool in_member = false;
    bool tracing = false;
    bool replaying = false;  // second pass, in pieces: no audit
    uint64_t traced = 0;
    std::string lookup;
    uint32_t vlm_by_number = 0, slm_by_number = 0;
    std::vector<uint32_t> local_epoch;  // per 32 bytes of the kernel's file-scope variables: member + 1 that wrote
    std::vector<uint32_t> vlm_epoch, slm_epoch;
    sigjmp_buf abandon;
};

Audit audit;

std::string coordinates(const int32_t* c, uint32_t n = kMaxDims) {
    std::string out = "(";
    for (uint32_t d = 0; d < n; ++d) {
        out += text(d ? "," : "", c[d]);
    }
    return out + ")";
}

void finding(const std::string& kind, int tensor, const int32_t* coordinate, const std::string& message,
             const char* severity = "error") {
    auto count = std::find_if(audit.counts.begin(), audit.counts.end(), [&](const auto& c) { return c.first == kind; });
    if (count == audit.counts.end()) {
        count = audit.counts.insert(count, {kind, 0});
    }
    if (++count->second > audit.request.cap) {
        return;
    }
    std::string out = text("{\"event\":\"finding\",\"kind\":", quoted(kind), ",\"severity\":\"", severity, "\"");
    out += text(",\"kernel\":", quoted(audit.kernel ? audit.kernel->name : ""));
    if (audit.in_member) {
        out += text(",\"member\":", list(audit.member, audit.member + kMaxDims));
    }
    if (tensor >= 0 && tensor < static_cast<int>(audit.tensors.size())) {
        const TensorAudit& t = audit.tensors[tensor];
        out += text(",\"tensor\":", tensor, ",\"tensor_name\":", quoted(t.name));
        if (coordinate != nullptr) {
            out += text(",\"coordinate\":", list(coordinate, coordinate + std::max(1u, t.original.rank)));
        }
    }
    out += text(",\"message\":", quoted(message), "}");
    answer(out);
}

[[noreturn]] void abandon_run() {
    siglongjmp(audit.abandon, 1);
}

// Coordinates of an element of the tensor as the launch gave it.
void unravel(const Tensor& t, int64_t element, int32_t* c) {
    for (int d = 0; d < kMaxDims; ++d) {
        c[d] = static_cast<int32_t>(element % std::max(1, t.size[d]));
        element /= std::max(1, t.size[d]);
    }
}

void trace(const char* what, int tensor, const int32_t* c, int lanes, int elem) {
    if (!audit.tracing || ++audit.traced > 10000) {
        return;
    }
    std::string out = text("{\"event\":\"access\",\"what\":\"", what, "\",\"tensor\":", tensor,
                           ",\"coordinate\":", list(c, c + kMaxDims), ",\"lanes\":", lanes, ",\"bytes\":", elem, "}");
    answer(out);
}

void check_pattern(int number, const int32_t* c, int begin, int end, const char* verb) {
    const TensorAudit& t = audit.tensors[number];
    if (t.pattern.all_required) {
        return;
    }
    const int64_t first = static_cast<int64_t>(c[0]) + begin, last = static_cast<int64_t>(c[0]) + end - 1;
    int bad = -1;
    int32_t where[kMaxDims] = {static_cast<int32_t>(first), c[1], c[2], c[3], c[4]};
    if (first < t.lo[0] || last > t.hi[0]) {
        bad = 0;
        where[0] = static_cast<int32_t>(first < t.lo[0] ? first : std::max<int64_t>(first, t.hi[0] + 1));
    }
    for (int d = 1; d < kMaxDims && bad < 0; ++d) {
        if (c[d] < t.lo[d] || c[d] > t.hi[d]) {
            bad = d;
        }
    }
    if (bad < 0) {
        return;
    }
    std::string out = text(verb, " ", t.name, " at ", coordinates(where, std::max(1u, t.original.rank)),
                           ", outside the declared access pattern: along dim ", bad, " this member may touch ");
    if (t.lo[bad] > t.hi[bad]) {
        out += text("nothing");
    } else {
        out += text("[", t.lo[bad], ", ", t.hi[bad], "]");
    }
    finding("access_pattern", number, where, out);
}

// True if the bytes are inside the tensor's memory; a kernel may have changed sizes or strides of the descriptor.
bool in_memory(int number, const uint8_t* first, int64_t bytes) {
    const TensorAudit& t = audit.tensors[number];
    const int64_t offset = first - t.original.base;
    return offset >= 0 && offset + bytes <= t.elements * static_cast<int64_t>(t.original.elem);
}

void check_element_size(int number, const int32_t* c, int elem, const char* verb) {
    const TensorAudit& t = audit.tensors[number];
    if (static_cast<uint32_t>(elem) != t.original.elem) {
        finding("element_size", number, c,
                std::string(verb) + " " + t.name + " as " + std::to_string(elem) + "-byte elements; it has " +
                    std::to_string(t.original.elem) + "-byte ones");
    }
}

// Loads from an output: only what this member wrote, and only after a fence.
void check_readable(int number, int64_t first, int64_t last, bool by_vector) {
    TensorAudit& t = audit.tensors[number];
    for (auto p = audit.pending.rbegin(); p != audit.pending.rend(); ++p) {
        if (p->tensor != number || p->last < first || p->first > last) {
            continue;
        }
        const bool visible = p->by_vector ? (by_vector && p->landed) : !by_vector;
        if (!visible) {
            int32_t c[kMaxDims];
            unravel(t.original, std::max(first, p->first), c);
            const char* fence = p->by_vector ? (by_vector ? "aso" : "aso and cache_invalidate") : "cache_flush";
            finding("raw_hazard", number, c,
                    std::string(by_vector ? "vector" : "scalar") + " load of " + t.name + " at " +
                        coordinates(c, std::max(1u, t.original.rank)) + " after a " +
                        (p->by_vector ? "vector" : "scalar") + " store to it by the same member, without " + fence);
            return;
        }
    }
    for (int64_t e = first; e <= last; ++e) {
        const uint32_t owner = t.owner[e] & ~kRmw;
        if (owner == audit.member_number + 1 || (owner == 0 && t.pattern.memset)) {
            continue;
        }
        int32_t c[kMaxDims];
        unravel(t.original, e, c);
        const std::string place = t.name + " at " + coordinates(c, std::max(1u, t.original.rank));
        if (owner == 0) {
            finding("uninitialised_global", number, c, "reads " + place + ", which nobody has written");
        } else {
            finding("cross_member_read", number, c,
                    "reads " + place + ", which another member wrote: members have no order");
        }
        return;
    }
}

void record_load(int number, int64_t first, int64_t last, bool by_vector) {
    TensorAudit& t = audit.tensors[number];
    if (t.is_output) {
        check_readable(number, first, last, by_vector);
    } else {
        std::memset(t.touched.data() + first, 1, static_cast<size_t>(last - first + 1));
    }
}

void record_store(int number, int64_t first, int64_t last, const uint8_t* lane_mask, bool by_vector, bool rmw) {
    TensorAudit& t = audit.tensors[number];
    const uint32_t self = (audit.member_number + 1) | (rmw ? kRmw : 0);
    for (int64_t e = first; e <= last; ++e) {
        if (lane_mask != nullptr && !lane_mask[e - first]) {
            continue;
        }
        const uint32_t before = t.owner[e];
        t.owner[e] = self;
        if (before == 0 || ((before ^ self) & ~kRmw) == 0 || (before & self & kRmw)) {
            continue;
        }
        int32_t c[kMaxDims];
        unravel(t.original, e, c);
        finding("double_write", number, c,
                "writes " + t.name + " at " + coordinates(c, std::max(1u, t.original.rank)) +
                    ", which another member (number " + std::to_string((before & ~kRmw) - 1) + ") has written as well");
    }
    if (!audit.pending.empty()) {
        Pending& p = audit.pending.back();
        if (p.tensor == number && p.last + 1 == first && p.by_vector == by_vector && !p.landed) {
            p.last = last;
            return;
        }
    }
    audit.pending.push_back({number, first, last, by_vector, false});
}

// The in-tensor part of a vector access, or an empty row.
detail::Row row_of(int number, const int32_t* c, int n, int elem, const char* verb) {
    const Tensor& t = audit.context->tensor[number];
    const detail::Row row = detail::clip(t, c, n, elem);
    if (row.begin < row.end &&
        !in_memory(number, row.first + row.begin * elem, static_cast<int64_t>(row.end - row.begin) * elem)) {
        finding("out_of_memory_bounds", number, c,
                std::string(verb) + " " + audit.tensors[number].name +
                    " outside its memory: its descriptor was changed or has another element size");
        return {nullptr, 0, 0};
    }
    return row;
}

void hook_bad_tensor(int tensor) {
    finding("bad_tensor", -1, nullptr,
            "uses tensor " + std::to_string(tensor) + "; this launch has " + std::to_string(audit.tensors.size()));
    abandon_run();
}

void hook_private_table() {
    finding("private_table", -1, nullptr,
            "looks up a vendor table whose contents are not public; call the v_*_f32 function instead");
    abandon_run();
}

void require_tensor(int tensor) {
    if (static_cast<uint32_t>(tensor) >= audit.tensors.size()) {
        hook_bad_tensor(tensor);
    }
}

void replay_load(int number, const int32_t* c, void* dst, int n, int elem) {
    detail::load_clipped(audit.context->tensor[number], c, dst, n, elem);
}

void replay_store(int number, const int32_t* c, const void* src, int n, int elem, const uint8_t* lane_mask,
                  Combine combine) {
    const detail::Row row = detail::clip(audit.context->tensor[number], c, n, elem);
    for (int i = row.begin; i < row.end; ++i) {
        if (lane_mask != nullptr && !lane_mask[i]) {
            continue;
        }
        if (combine != nullptr) {
            combine(row.first + i * elem, static_cast<const uint8_t*>(src) + i * elem);
        } else {
            std::memcpy(row.first + i * elem, static_cast<const uint8_t*>(src) + i * elem, static_cast<size_t>(elem));
        }
    }
}

void hook_load(int number, const int32_t* c, void* dst, int n, int elem) {
    require_tensor(number);
    if (audit.replaying) {
        replay_load(number, c, dst, n, elem);
        return;
    }
    TensorAudit& t = audit.tensors[number];
    trace("load", number, c, n, elem);
    check_element_size(number, c, elem, "loads");
    if (t.original.elem != 0) {  // [descriptor_elements] the same bytes, as elements of the tensor
        n = n * elem / static_cast<int>(t.original.elem);
        elem = static_cast<int>(t.original.elem);
    }
    ++t.loads;
    const detail::Row row = row_of(number, c, n, elem, "reads");
    t.padded += static_cast<uint64_t>(n - (row.end - row.begin));
    if (row.end - row.begin < n) {
        detail::fill_pad(dst, n, elem, audit.context->tensor[number].pad);
    }
    if (row.begin >= row.end) {
        return;
    }
    check_pattern(number, c, row.begin, row.end, "reads");
    const int64_t first = (row.first + row.begin * elem - t.original.base) / t.original.elem;
    const int64_t last = (row.first + row.end * elem - 1 - t.original.base) / t.original.elem;
    record_load(number, first, last, true);
    std::memcpy(static_cast<uint8_t*>(dst) + row.begin * elem, row.first + row.begin * elem,
                static_cast<size_t>(row.end - row.begin) * elem);
}

void store_any(int number, const int32_t* c, const void* src, int n, int elem, const uint8_t* lane_mask,
               Combine combine) {
    require_tensor(number);
    if (audit.replaying) {
        replay_store(number, c, src, n, elem, lane_mask, combine);
        return;
    }
    TensorAudit& t = audit.tensors[number];
    trace(combine ? "store_rmw" : "store", number, c, n, elem);
    check_element_size(number, c, elem, "stores to");
    ++t.stores;
    if (!t.is_output) {
        finding("store_to_input", number, c, "stores to " + t.name);
        return;
    }
    const detail::Row row = row_of(number, c, n, elem, "writes");
    t.dropped += static_cast<uint64_t>(n - (row.end - row.begin));
    if (row.begin >= row.end) {
        return;
    }
    check_pattern(number, c, row.begin, row.end, "writes");
    const int64_t first = (row.first + row.begin * elem - t.original.base) / t.original.elem;
    const int64_t last = (row.first + row.end * elem - 1 - t.original.base) / t.original.elem;
    const uint8_t* mask = lane_mask && static_cast<uint32_t>(elem) == t.original.elem ? lane_mask + row.begin : nullptr;
    record_store(number, first, last, mask, true, combine != nullptr);
    const auto* in = static_cast<const uint8_t*>(src);
    if (lane_mask == nullptr && combine == nullptr) {
        std::memcpy(row.first + row.begin * elem, in + row.begin * elem,
                    static_cast<size_t>(row.end - row.begin) * elem);
        return;
    }
    for (int i = row.begin; i < row.end; ++i) {
        if (lane_mask != nullptr && !lane_mask[i]) {
            continue;
        }
        if (combine != nullptr) {
            combine(row.first + i * elem, in + i * elem);
        } else {
            std::memcpy(row.first + i * elem, in + i * elem, static_cast<size_t>(elem));
        }
    }
}

void hook_store(int number, const int32_t* c, const void* src, int n, int elem, const uint8_t* lane_mask) {
    store_any(number, c, src, n, elem, lane_mask, nullptr);
}

void hook_store_rmw(int number, const int32_t* c, const void* src, int n, int elem, const uint8_t* lane_mask,
                    Combine combine) {
    store_any(number, c, src, n, elem, lane_mask, combine);
}

GlobalPtr hook_gen_addr(int number, const int32_t* c) {
    require_tensor(number);
    const Tensor& t = audit.context->tensor[number];
    return {t.base + detail::element_offset(t, c) * t.elem, number};
}

// The tensor a global address belongs to, or -1.
int tensor_of(const GlobalPtr& p, int bytes) {
    if (p.tensor >= 0 && p.tensor < static_cast<int>(audit.tensors.size())) {
        return in_memory(p.tensor, p.address, bytes) ? p.tensor : -1;
    }
    for (size_t i = 0; i < audit.tensors.size(); ++i) {
        if (in_memory(static_cast<int>(i), p.address, bytes)) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

// Elements [first, last] of a global access by address; false, with a finding, if it is in no tensor.
bool global_range(const GlobalPtr& p, int bytes, const char* verb, int& number, int64_t& first, int64_t& last) {
    number = tensor_of(p, bytes);
    if (number < 0) {
        std::string out = text(verb, " global memory outside every tensor");
        if (p.tensor >= 0 && p.tensor < static_cast<int>(audit.tensors.size())) {
            const TensorAudit& t = audit.tensors[p.tensor];
            out += text(": byte ", (p.address - t.original.base), " from the start of ", t.name, ", which has ",
                        t.elements * t.original.elem, " bytes");
        }
        finding("wild_pointer", p.tensor, nullptr, out);
        return false;
    }
    const TensorAudit& t = audit.tensors[number];
    first = (p.address - t.original.base) / t.original.elem;
    last = (p.address + bytes - 1 - t.original.base) / t.original.elem;
    int32_t c[kMaxDims];
    unravel(t.original, first, c);
    trace(verb[0] == 'r' ? "load_g" : "store_g", number, c, 1, bytes);
    for (int64_t e = first; e <= last; ++e) {  // one by one: a vector by address may run into the next row
        unravel(t.original, e, c);
        check_pattern(number, c, 0, 1, verb);
    }
    return true;
}

void load_at(const GlobalPtr& from, void* dst, int bytes, bool by_vector) {
    int number;
    int64_t first, last;
    if (audit.replaying) {
        std::memcpy(dst, from.address, static_cast<size_t>(bytes));
        return;
    }
    std::memset(dst, 0, static_cast<size_t>(bytes));
    if (!global_range(from, bytes, "reads", number, first, last)) {
        return;
    }
    ++audit.tensors[number].loads;
    record_load(number, first, last, by_vector);
    std::memcpy(dst, from.address, static_cast<size_t>(bytes));
}

void write_at(uint8_t* to, const void* src, int n, int elem, Combine combine) {
    if (combine == nullptr) {
        std::memcpy(to, src, static_cast<size_t>(n) * elem);
        return;
    }
    for (int i = 0; i < n; ++i) {
        combine(to + i * elem, static_cast<const uint8_t*>(src) + i * elem);
    }
}

void store_at(const GlobalPtr& to, const void* src, int n, int elem, Combine combine, bool by_vector) {
    int number;
    int64_t first, last;
    if (audit.replaying) {
        write_at(to.address, src, n, elem, combine);
        return;
    }
    if (!global_range(to, n * elem, "writes", number, first, last)) {
        return;
    }
    ++audit.tensors[number].stores;
    if (!audit.tensors[number].is_output) {
        finding("store_to_input", number, nullptr, "stores to " + audit.tensors[number].name);
        return;
    }
    record_store(number, first, last, nullptr, by_vector, combine != nullptr);
    write_at(to.address, src, n, elem, combine);
}

void hook_load_g(const GlobalPtr& from, void* dst, int bytes) { load_at(from, dst, bytes, false); }
void hook_store_g(const GlobalPtr& to, const void* src, int bytes) { store_at(to, src, 1, bytes, nullptr, false); }
void hook_load_direct(const GlobalPtr& from, void* dst, int bytes) { load_at(from, dst, bytes, true); }
void hook_store_direct(const GlobalPtr& to, const void* src, int n, int elem, Combine combine) {
    store_at(to, src, n, elem, combine, true);
}

bool local_range(bool vector, uint32_t address, int bytes, const char* verb) {
    const uint32_t limit = vector ? kVlmBytes : audit.request.slm_limit;
    if (address + static_cast<uint64_t>(bytes) > limit) {
        finding("local_memory", -1, nullptr,
                std::string(verb) + " byte " + std::to_string(address) + " of " + (vector ? "VLM" : "SLM") +
                    ", which has " + std::to_string(limit) + " bytes");
        return false;
    }
    uint32_t& used = vector ? audit.vlm_by_number : audit.slm_by_number;
    used = std::max(used, address + static_cast<uint32_t>(bytes));
    return true;
}

void hook_load_l(bool vector, uint32_t address, void* dst, int bytes) {
    std::memset(dst, 0, static_cast<size_t>(bytes));
    if (!local_range(vector, address, bytes, "reads")) {
        return;
    }
    const std::vector<uint32_t>& epoch = vector ? audit.vlm_epoch : audit.slm_epoch;
    for (int i = 0; i < bytes && !audit.replaying; ++i) {
        if (epoch[address + i] != audit.member_number + 1) {
            finding("uninitialised_local", -1, nullptr,
                    std::string("reads byte ") + std::to_string(address + i) + " of " + (vector ? "VLM" : "SLM") +
                        ", which this member has not written");
            break;
        }
    }
    std::memcpy(dst, (vector ? audit.context->vlm : audit.context->slm) + address, static_cast<size_t>(bytes));
}

void hook_store_l(bool vector, uint32_t address, const void* src, int bytes, const uint8_t* byte_mask) {
    if (!local_range(vector, address, bytes, "writes")) {
        return;
    }
    std::vector<uint32_t>& epoch = vector ? audit.vlm_epoch : audit.slm_epoch;
    uint8_t* to = (vector ? audit.context->vlm : audit.context->slm) + address;
    for (int i = 0; i < bytes; ++i) {
        if (byte_mask == nullptr || byte_mask[i]) {
            to[i] = static_cast<const uint8_t*>(src)[i];
            epoch[address + i] = audit.member_number + 1;
        }
    }
}

void hook_fence(Fence kind) {
    for (Pending& p : audit.pending) {
        if (kind == Fence::aso) {
            p.landed = true;
        }
    }
    const auto settled = [kind](const Pending& p) {
        return (kind == Fence::cache_invalidate && p.by_vector && p.landed) ||
               (kind == Fence::cache_flush && !p.by_vector);
    };
    audit.pending.erase(std::remove_if(audit.pending.begin(), audit.pending.end(), settled), audit.pending.end());
}

void hook_note_lookup(const char* function) {
    if (audit.lookup.empty()) {
        audit.lookup = function;
    }
}

const Local* local_at(uintptr_t address) {
    for (uint32_t i = 0; i < audit.kernel->local_count; ++i) {
        const Local& v = audit.kernel->locals[i];
        const auto base = reinterpret_cast<uintptr_t>(v.address);
        if (address - base < v.bytes) {
            return &v;
        }
    }
    return nullptr;
}

void hook_local_read(const void* address, uint32_t bytes) {
    const auto at = reinterpret_cast<uintptr_t>(address);
    const Local* v = local_at(at);
    if (audit.replaying || v == nullptr || v->initialised) {
        return;
    }
    const uintptr_t offset = at - audit.context->local_base;
    for (uintptr_t granule = offset / 32; granule <= (offset + bytes - 1) / 32; ++granule) {
        if (audit.local_epoch[granule] != audit.member_number + 1) {
            const uintptr_t within = at - reinterpret_cast<uintptr_t>(v->address);
            finding("uninitialised_local", -1, nullptr,
                    std::string("reads ") + v->name + " at vector " + std::to_string(within / 256) +
                        ", which this member has not written");
            return;
        }
    }
}

void hook_local_write(const void* address, uint32_t bytes) {
    const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - audit.context->local_base;
    for (uintptr_t granule = offset / 32; granule <= (offset + bytes - 1) / 32; ++granule) {
        audit.local_epoch[granule] = audit.member_number + 1;
    }
}

const Hooks hooks = {hook_load, hook_store, hook_store_rmw, hook_gen_addr, hook_load_g, hook_store_g,
                     hook_load_direct, hook_store_direct, hook_load_l, hook_store_l, hook_fence, hook_note_lookup,
                     hook_local_read, hook_local_write, hook_bad_tensor, hook_private_table};

// --- one launch
// -------------------------------------------------------------------------------------------------------

[[noreturn]] void stop(const std::string& kind, const std::string& message) {
    finding(kind, -1, nullptr, message);
    _exit(0);
}

uint8_t* map_tensor(int file, const TensorSpec& spec, uint64_t bytes) {
    const size_t length = std::max<size_t>(kPage, (bytes + kPage - 1) / kPage * kPage);
    auto* area = static_cast<uint8_t*>(
        mmap(nullptr, length + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (area == MAP_FAILED) {
        stop("memory", "no address space for the tensors");
    }
    void* at = mmap(area + kGuard, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
                    static_cast<off_t>(spec.file_offset));
    if (at == MAP_FAILED) {
        stop("memory", "the tensors could not be mapped");
    }
    return static_cast<uint8_t*>(at);
}

TensorAudit make_tensor(const std::string& name, const TensorSpec& spec, uint8_t* base) {
    TensorAudit t;
    t.name = name;
    t.is_output = spec.is_output;
    t.dtype = spec.dtype;
    t.original.base = base;
    t.original.rank = spec.rank;
    t.original.elem = element_bytes(spec.dtype);
    int64_t stride = 1;
    for (uint32_t d = 0; d < kMaxDims; ++d) {
        t.original.size[d] = d < spec.rank ? static_cast<int32_t>(spec.size[d]) : 1;
        t.original.stride[d] = stride;
        stride *= t.original.size[d];
    }
    t.elements = stride;
    return t;
}

Pattern pattern_from(const glue::TensorAccessPattern& declared) {
    Pattern p;
    p.all_required = declared.allRequired;
    p.memset = declared.memsetBeforeExecution;
    for (int d = 0; d < kMaxDims; ++d) {
        const glue::DimIndexSpaceMapping& m = declared.mapping[d];
        p.dim[d] = {m.indexSpaceDim, m.a, m.start_b, m.end_b, m.allRequired};
    }
    return p;
}

// Sets the ranges the member at `c` may touch. Both ends are rounded down, as the graph compiler does when it turns
// them into a region of interest (synapse tpc_node.cpp, getWorkROI).
void set_ranges(TensorAudit& t, const int32_t* c) {
    for (uint32_t d = 0; d < kMaxDims; ++d) {
        const Pattern::Dim& m = t.pattern.dim[d];
        if (d >= t.original.rank || m.all_required) {
            t.lo[d] = 0;
            t.hi[d] = std::numeric_limits<int32_t>::max();
            continue;
        }
        const double i = m.index_dim < kMaxDims ? c[m.index_dim] : 0;
        t.lo[d] = static_cast<int64_t>(std::floor(m.a * i + m.start));
        t.hi[d] = static_cast<int64_t>(std::floor(m.a * i + m.end));
    }
}

void check_declared_pattern(int number, const std::vector<int32_t>& geometry, uint32_t rank) {
    TensorAudit& t = audit.tensors[number];
    if (t.pattern.all_required || t.elements == 0) {
        return;
    }
    for (uint32_t d = 0; d < t.original.rank; ++d) {
        const Pattern::Dim& m = t.pattern.dim[d];
        if (m.all_required) {
            continue;
        }
        std::string out = text("the access pattern of ", t.name, " along dim ", d);
        if (m.index_dim >= rank) {
            out += text(" names index-space dim ", m.index_dim, " of ", rank);
            finding("glue_pattern", number, nullptr, out);
            continue;
        }
        const double last = m.a * (geometry[m.index_dim] - 1);
        if (m.end < 0 || m.start > t.original.size[d] - 1 || last + m.end < 0 ||
            last + m.start > t.original.size[d] - 1) {
            out += text(" lies outside the tensor at the first or last member; the graph compiler refuses that");
            finding("glue_pattern", number, nullptr, out);
        }
    }
}

struct Plan {
    std::string kernel;
    std::vector<int32_t> geometry;
    uint32_t rank = 0;
    std::vector<uint32_t> scalars;  // kMaxScalars of them, `given` meant
    uint32_t given = 0;
};

void fill_tensor(glue::Tensor& out, const TensorSpec& spec) {
    out.geometry.dims = spec.rank;
    out.geometry.dataType = static_cast<glue::TensorDataType>(spec.dtype);
    for (uint32_t d = 0; d < glue::MAX_TENSOR_DIM; ++d) {
        out.geometry.maxSizes[d] = out.geometry.minSizes[d] = d < spec.rank ? spec.size[d] : 1;
        out.permutation[d] = d;
    }
    out.quantizationParam.scale = 1.0;
}

// Asks the glue, with the handshakes for the ELF and for auxiliary buffers.
Plan instantiate(void* library) {
    const Request& request = audit.request;
    const auto entry =
        reinterpret_cast<glue::pfnInstantiateTpcKernel>(dlsym(library, KERNEL_INSTANTIATION_ENTRY_POINT_NAME));
    if (entry == nullptr) {
        stop("glue", "the library has no InstantiateTpcKernel");
    }
    static std::vector<glue::Tensor> inputs, outputs;
    for (const TensorSpec& spec : audit.request.tensors) {
        auto& group = spec.is_output ? outputs : inputs;
        group.emplace_back();
        std::memset(&group.back(), 0, sizeof(glue::Tensor));
        fill_tensor(group.back(), spec);
    }
    static glue::HabanaKernelParams params;
    std::memset(&params, 0, sizeof params);
    params.apiVersion = 1;
    params.deviceId = static_cast<glue::DeviceId>(audit.request.device);
    snprintf(params.guid.name, sizeof params.guid.name, "%s", audit.request.guid.c_str());
    params.nodeParams.nodeParams = audit.request.params.empty() ? nullptr : audit.request.params.data();
    params.nodeParams.nodeParamsSize = static_cast<uint32_t>(audit.request.params.size());
    params.inputTensors = inputs.data();
    params.inputTensorNr = static_cast<uint32_t>(inputs.size());
    params.outputTensors = outputs.data();
    params.outputTensorNr = static_cast<uint32_t>(outputs.size());
    params.maxAvailableTpc = 1;
    params.validInputTensors = static_cast<uint16_t>((1u << inputs.size()) - 1);
    params.validOutputTensors = static_cast<uint16_t>((1u << outputs.size()) - 1);

    static std::vector<glue::TensorAccessPattern> in_patterns(inputs.size() + 1), out_patterns(outputs.size() + 1);
    static std::vector<glue::AuxTensor> aux(kMaxAux);
    static std::vector<std::vector<uint8_t>> aux_buffers(kMaxAux);
    static std::vector<uint8_t> elf;
    static glue::HabanaKernelInstantiation out;
    std::memset(static_cast<void*>(&out), 0, sizeof out);
    std::memset(static_cast<void*>(aux.data()), 0, sizeof(glue::AuxTensor) * kMaxAux);
    int code = 0;
    for (int attempt = 0; attempt < 4; ++attempt) {
        std::memset(static_cast<void*>(in_patterns.data()), 0, sizeof(glue::TensorAccessPattern) * in_patterns.size());
        std::memset(static_cast<void*>(out_patterns.data()), 0,
                    sizeof(glue::TensorAccessPattern) * out_patterns.size());
        out.inputTensorAccessPattern = in_patterns.data();
        out.outputTensorAccessPattern = out_patterns.data();
        out.auxiliaryTensors = aux.data();
        out.auxiliaryTensorNr = kMaxAux;
        out.kernel.kernelElf = elf.data();
        out.kernel.elfSize = static_cast<uint32_t>(elf.size());
        code = entry(&params, &out);
        if (code == glue::GLUE_INSUFFICIENT_ELF_BUFFER && out.kernel.elfSize > elf.size()) {
            elf.assign(out.kernel.elfSize, 0);
        } else if (code == glue::GLUE_INSUFFICIENT_AUX_BUFFER_SIZE) {
            for (uint32_t i = 0; i < kMaxAux; ++i) {
                if (aux[i].bufferSize > aux_buffers[i].size()) {
                    aux_buffers[i].assign(aux[i].bufferSize, 0);
                    aux[i].pData = aux_buffers[i].data();
                }
            }
        } else {
            break;
        }
    }
    if (code != glue::GLUE_SUCCESS) {
        std::string line = text("{\"event\":\"glue_code\",\"code\":", code, "}");
        answer(line);
        stop("glue", "InstantiateTpcKernel refused " + audit.request.guid + " with code " + std::to_string(code));
    }
    const std::string bytes(elf.begin(), elf.end());
    if (request.kernel.empty() && bytes.rfind(kElfMark, 0) != 0) {
        stop("glue", "the glue's ELF for " + audit.request.guid + " is not that of a host kernel");
    }
    Plan plan;
    plan.kernel = request.kernel.empty() ? bytes.c_str() + strlen(kElfMark) : request.kernel;
    if (out.indexSpaceRank < 1 || out.indexSpaceRank > kMaxDims) {
        stop("glue", "the glue gives an index space of rank " + std::to_string(out.indexSpaceRank));
    }
    if (out.kernel.paramsNr > kMaxScalars) {
        stop("glue",
             "the glue gives " + std::to_string(out.kernel.paramsNr) + " scalar parameters; at most 32 are possible");
    }
    if (out.auxiliaryTensorNr >= kMaxAux) {  // left as it came: the glue has none
        out.auxiliaryTensorNr = 0;
    }
    plan.rank = out.indexSpaceRank;
    plan.geometry.assign(kMaxDims, 1);
    for (uint32_t d = 0; d < plan.rank; ++d) {
        plan.geometry[d] = static_cast<int32_t>(out.indexSpaceGeometry[d]);
    }
    plan.given = out.kernel.paramsNr;
    plan.scalars.assign(out.kernel.scalarParams, out.kernel.scalarParams + plan.given);
    plan.scalars.resize(kMaxScalars, 0);
    for (size_t i = 0; i < audit.tensors.size(); ++i) {
        const bool is_output = audit.tensors[i].is_output;
        const auto& declared = is_output ? out_patterns[i - inputs.size()] : in_patterns[i];
        audit.tensors[i].pattern = pattern_from(declared);
        std::memcpy(audit.tensors[i].pattern.memset_value, &declared.memsetValue, 8);
    }
    for (uint32_t i = 0; i < out.auxiliaryTensorNr; ++i) {
        TensorSpec spec{};
        spec.dtype = aux[i].geometry.dataType;
        spec.rank = std::min<uint32_t>(aux[i].geometry.dims, kMaxDims);
        uint64_t elements = 1;
        for (uint32_t d = 0; d < spec.rank; ++d) {
            spec.size[d] = std::max<uint64_t>(1, aux[i].geometry.maxSizes[d]);
            elements *= spec.size[d];
        }
        const uint64_t bytes_needed = elements * element_bytes(spec.dtype);
        static std::vector<std::vector<uint8_t>> scratch(kMaxAux);
        scratch[i].assign(bytes_needed, 0);
        if (aux[i].pData != nullptr && !aux[i].noInit) {
            std::memcpy(scratch[i].data(), aux[i].pData, bytes_needed);
        }
        TensorAudit t = make_tensor("aux " + std::to_string(i), spec, scratch[i].data());
        t.pattern.all_required = true;
        audit.tensors.push_back(t);
    }
    return plan;
}

const Kernel* find_kernel(void* library, const std::string& name, size_t scalars_given) {
    const auto* kernel = static_cast<const Kernel*>(dlsym(library, ("tpcgen_kernel_" + name).c_str()));
    if (kernel == nullptr) {
        stop("glue", "the library has no kernel " + name);
    }
    if (kernel->abi != kRuntimeAbi || !kernel->strict) {
        stop("glue", "kernel " + name + " was not built for the strict device");
    }
    audit.kernel = kernel;
    if (kernel->tensors != audit.tensors.size()) {
        stop("signature", "main of " + name + " takes " + std::to_string(kernel->tensors) +
                              " tensors; the launch has " + std::to_string(audit.tensors.size()));
    }
    if (kernel->scalars > scalars_given) {
        stop("signature", "main of " + name + " takes " + std::to_string(kernel->scalars) + " scalars; it is given " +
                              std::to_string(scalars_given));
    }
    return kernel;
}

void account_local_memory() {
    uint64_t vlm = audit.vlm_by_number, slm = audit.slm_by_number;
    for (uint32_t i = 0; i < audit.kernel->local_count; ++i) {
        (audit.kernel->locals[i].vector ? vlm : slm) += audit.kernel->locals[i].bytes;
    }
    const uint64_t vlm_limit = audit.lookup.empty() ? kVlmBytes : kVlmBytesWithLookup;
    if (vlm > vlm_limit) {
        finding("local_memory", -1, nullptr,
                "uses " + std::to_string(vlm) + " bytes of vector local memory; " + std::to_string(vlm_limit) +
                    " are available" + (audit.lookup.empty() ? "" : ", because " + audit.lookup + " uses LOOKUP"));
    }
    if (slm > audit.request.slm_limit) {
        finding("local_memory", -1, nullptr,
                "uses " + std::to_string(slm) + " bytes of scalar local memory; " +
                    std::to_string(audit.request.slm_limit) + " are available");
    }
    std::string line =
        text("{\"event\":\"memory\",\"vlm\":", vlm, ",\"slm\":", slm, ",\"lookup\":", quoted(audit.lookup), "}");
    answer(line);
}

bool is_nan(uint32_t dtype, const uint8_t* p) {
    if (dtype == glue::DATA_F32) {
        uint32_t bits;
        std::memcpy(&bits, p, 4);
        return (bits & 0x7fffffffu) > 0x7f800000u;
    }
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return (bits & 0x7fffu) > (dtype == glue::DATA_BF16 ? 0x7f80u : 0x7c00u);
}

void check_outputs() {
    for (size_t i = 0; i < audit.tensors.size(); ++i) {
        TensorAudit& t = audit.tensors[i];
        int64_t accessed = 0;
        if (t.is_output) {
            int64_t first_missing = -1;
            for (int64_t e = 0; e < t.elements; ++e) {
                if (t.owner[e] != 0) {
                    ++accessed;
                } else if (first_missing < 0) {
                    first_missing = e;
                }
            }
            if (first_missing >= 0 && !t.pattern.memset) {
                int32_t c[kMaxDims];
                unravel(t.original, first_missing, c);
                finding("unwritten", static_cast<int>(i), c,
                        std::to_string(t.elements - accessed) + " of " + std::to_string(t.elements) + " elements of " +
                            t.name + " were not written, the first at " +
                            coordinates(c, std::max(1u, t.original.rank)));
            }
            if ((t.dtype == glue::DATA_F32 || t.dtype == glue::DATA_BF16 || t.dtype == glue::DATA_F16) &&
                accessed > 0) {
                bool all = true;
                for (int64_t e = 0; e < t.elements && all; ++e) {
                    all = is_nan(t.dtype, t.original.base + e * t.original.elem);
                }
                if (all) {
                    finding("all_nan", static_cast<int>(i), nullptr, "every element of " + t.name + " is NaN",
                            "warning");
                }
            }
        } else {
            accessed = std::count(t.touched.begin(), t.touched.end(), uint8_t{1});
        }
        std::string line = text("{\"event\":\"tensor\",\"name\":", quoted(t.name), ",\"elements\":", t.elements,
                                ",\"accessed\":", accessed, ",\"loads\":", t.loads, ",\"stores\":", t.stores,
                                ",\"padded\":", t.padded, ",\"dropped\":", t.dropped, "}");
        answer(line);
    }
}

void run_member(const Plan& plan, uint64_t number) {
    audit.member_number = static_cast<uint32_t>(number);
    uint64_t rest = number;
    for (uint32_t d = 0; d < kMaxDims; ++d) {
        audit.member[d] = static_cast<int32_t>(rest % plan.geometry[d]);
        rest /= plan.geometry[d];
    }
    std::memcpy(audit.progress->member, audit.member, sizeof audit.member);
    audit.progress->in_member = 1;
    audit.in_member = true;
    audit.tracing = audit.request.trace.size() == kMaxDims &&
                    std::equal(audit.member, audit.member + kMaxDims, audit.request.trace.begin());
    audit.pending.clear();
    Context& context = *audit.context;
    for (size_t i = 0; i < audit.tensors.size(); ++i) {
        context.tensor[i] = audit.tensors[i].original;
        set_ranges(audit.tensors[i], audit.member);
    }
    for (int d = 0; d < kMaxDims; ++d) {
        context.offset[d] = audit.member[d];
        context.size[d] = 1;
    }
    audit.kernel->run(plan.scalars.data());
    audit.in_member = false;
    audit.progress->in_member = 0;
    ++audit.progress->members_done;
}

// Outputs as the graph compiler hands them over: set, if the glue asks for it, else all ones (NaN).
void prepare_outputs() {
    for (TensorAudit& t : audit.tensors) {
        if (!t.is_output) {
            continue;
        }
        std::memset(t.original.base, 0xff, static_cast<size_t>(t.elements) * t.original.elem);
        for (int64_t e = 0; t.pattern.memset && e < t.elements; ++e) {
            std::memcpy(t.original.base + e * t.original.elem, t.pattern.memset_value, t.original.elem);
        }
    }
}

uint64_t members_of(const Plan& plan) {
    uint64_t members = 1;
    for (const int32_t size : plan.geometry) {
        members *= static_cast<uint64_t>(std::max(0, size));
    }
    if (members >= kRmw - 1) {
        stop("glue", text("the index space has ", members, " members"));
    }
    return members;
}

void run_members(const Plan& plan, const uint64_t members) {
    std::vector<uint32_t> order(members);
    for (uint64_t i = 0; i < members; ++i) {
        order[i] = static_cast<uint32_t>(i);
    }
    uint64_t state = audit.request.seed;
    for (uint64_t i = members; i > 1; --i) {  // Fisher-Yates over splitmix64
        uint64_t z = (state += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        std::swap(order[i - 1], order[(z ^ (z >> 31)) % i]);
    }
    const detail::FlushDenormals mode;
    if (sigsetjmp(audit.abandon, 0) == 0) {
        for (const uint32_t number : order) {
            run_member(plan, number);
        }
    }
    audit.in_member = false;
    answer("{\"event\":\"members\",\"total\":" + std::to_string(members) + "}");
}

bool has_errors() {
    return std::any_of(audit.counts.begin(), audit.counts.end(), [](const auto& c) { return c.second > 0; });
}

void compare_piecewise(int number, const std::vector<uint8_t>& one_by_one) {
    const TensorAudit& t = audit.tensors[number];
    for (int64_t e = 0; e < t.elements; ++e) {
        if ((t.owner[e] & kRmw) || std::memcmp(t.original.base + e * t.original.elem, &one_by_one[e * t.original.elem],
                                               t.original.elem) == 0) {
            continue;
        }
        int32_t c[kMaxDims];
        unravel(t.original, e, c);
        finding("piece", number, c,
                text(t.name, " at ", coordinates(c, std::max(1u, t.original.rank)),
                     " gets another value when members run in pieces of several: main must cover "
                     "get_index_space_size() members from get_index_space_offset() on"));
        return;
    }
}

// The device gives each TPC a piece of several members; so far every piece had one. Runs the index space again in two
// pieces, cut along its longest dim, and expects the same outputs.
void run_pieces(const Plan& plan, const uint64_t members) {
    if (members < 2 || has_errors()) {
        return;
    }
    std::vector<std::vector<uint8_t>> one_by_one;
    for (const TensorAudit& t : audit.tensors) {
        one_by_one.emplace_back(t.original.base, t.original.base + (t.is_output ? t.elements * t.original.elem : 0));
    }
    prepare_outputs();
    fflush(stdout);  // what the kernel prints a second time is not kept
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 1);
    const auto longest = std::max_element(plan.geometry.begin(), plan.geometry.end());
    const auto dim = static_cast<size_t>(longest - plan.geometry.begin());
    const detail::FlushDenormals mode;
    audit.replaying = true;
    Context& context = *audit.context;
    for (int32_t first = 0; first < *longest; first += (*longest + 1) / 2) {
        for (size_t i = 0; i < audit.tensors.size(); ++i) {
            context.tensor[i] = audit.tensors[i].original;
        }
        for (size_t d = 0; d < kMaxDims; ++d) {
            context.offset[d] = d == dim ? first : 0;
            context.size[d] = d == dim ? std::min((*longest + 1) / 2, *longest - first) : plan.geometry[d];
            audit.progress->member[d] = context.offset[d];
        }
        audit.progress->in_member = 1;
        audit.kernel->run(plan.scalars.data());
        audit.progress->in_member = 0;
    }
    audit.replaying = false;
    for (size_t i = 0; i < audit.tensors.size(); ++i) {
        const TensorAudit& t = audit.tensors[i];
        if (t.is_output) {
            compare_piecewise(static_cast<int>(i), one_by_one[i]);
            std::memcpy(t.original.base, one_by_one[i].data(), one_by_one[i].size());
        }
    }
}

void prepare_context() {
    Context& context = *audit.kernel->context;
    audit.context = &context;
    context.hooks = &hooks;
    context.tensors = static_cast<uint32_t>(audit.tensors.size());
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (uint32_t i = 0; i < audit.kernel->local_count; ++i) {
        const Local& v = audit.kernel->locals[i];
        const auto base = reinterpret_cast<uintptr_t>(v.address);
        low = std::min(low, base);
        high = std::max(high, base + v.bytes);
        if (!v.initialised) {
            std::memset(v.address, 0xff, v.bytes);
        }
    }
    if (low < high) {
        context.local_base = low;
        context.local_bytes = high - low;
        audit.local_epoch.assign((high - low) / 32 + 2, 0);
    }
    audit.vlm_epoch.assign(kVlmBytes, 0);
    audit.slm_epoch.assign(kSlmBytesMax, 0);
    for (TensorAudit& t : audit.tensors) {
        if (t.is_output) {
            t.owner.assign(static_cast<size_t>(t.elements), 0);
        } else {
            t.touched.assign(static_cast<size_t>(t.elements), 0);
        }
    }
}

void on_signal(int number, siginfo_t* info, void*) {
    if (audit.progress != nullptr) {
        audit.progress->signal = static_cast<uint32_t>(number);
        audit.progress->fault_address = reinterpret_cast<uint64_t>(info->si_addr);
    }
    signal(number, SIG_DFL);
    raise(number);
}

void set_limits() {
    static uint8_t stack[64 * 1024];
    const stack_t alternate = {stack, 0, sizeof stack};
    sigaltstack(&alternate, nullptr);
    if (!audit.request.sanitize) {
        struct sigaction action{};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
            sigaction(number, &action, nullptr);
        }
        const rlim_t bytes = static_cast<rlim_t>(audit.request.memory_mb) << 20;
        const rlimit memory = {bytes, bytes};
        setrlimit(RLIMIT_AS, &memory);
    }
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    std::set_new_handler(
        [] { stop("memory", "the memory limit of " + std::to_string(audit.request.memory_mb) + " MB was reached"); });
}

void* load(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        stop("device", std::string("the library could not be loaded: ") + dlerror());
    }
    return library;
}

[[noreturn]] void run_request() {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    set_limits();
    const Request& request = audit.request;
    const int file = open(request.shared.c_str(), O_RDWR | O_CLOEXEC);
    void* page = file < 0 ? MAP_FAILED : mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) {
        stop("device", "the shared file could not be mapped: " + request.shared);
    }
    audit.progress = static_cast<Progress*>(page);
    audit.progress->phase = static_cast<uint32_t>(Phase::start);
    void* library = load(request.library);
    int inputs = 0, outputs = 0;
    for (const TensorSpec& spec : request.tensors) {
        const std::string name =
            spec.is_output ? "output " + std::to_string(outputs++) : "input " + std::to_string(inputs++);
        uint64_t bytes = element_bytes(spec.dtype);
        for (uint32_t d = 0; d < spec.rank; ++d) {
            bytes *= spec.size[d];
        }
        audit.tensors.push_back(make_tensor(name, spec, map_tensor(file, spec, bytes)));
    }
    Plan plan;
    audit.progress->phase = static_cast<uint32_t>(Phase::glue);
    if (request.geometry.empty()) {
        plan = instantiate(request.glue_library.empty() ? library : load(request.glue_library));
    } else {
        plan.kernel = request.kernel;
        plan.geometry = request.geometry;
        plan.rank = static_cast<uint32_t>(plan.geometry.size());
        plan.geometry.resize(kMaxDims, 1);
        plan.scalars = request.scalars;
        plan.given = static_cast<uint32_t>(request.scalars.size());
        plan.scalars.resize(kMaxScalars, 0);
        for (TensorAudit& t : audit.tensors) {
            t.pattern.all_required = true;
        }
    }
    answer(text("{\"event\":\"instantiated\",\"kernel\":", quoted(plan.kernel),
                ",\"geometry\":", list(plan.geometry.begin(), plan.geometry.begin() + plan.rank), "}"));
    audit.kernel = find_kernel(library, plan.kernel, plan.given);
    for (size_t i = 0; i < audit.tensors.size(); ++i) {
        check_declared_pattern(static_cast<int>(i), plan.geometry, plan.rank);
    }
    prepare_context();
    audit.progress->phase = static_cast<uint32_t>(Phase::run);
    prepare_outputs();
    const uint64_t members = members_of(plan);
    run_members(plan, members);
    audit.progress->phase = static_cast<uint32_t>(Phase::pieces);
    run_pieces(plan, members);
    audit.progress->phase = static_cast<uint32_t>(Phase::finish);
    account_local_memory();
    check_outputs();
    for (const auto& [kind, count] : audit.counts) {
        answer("{\"event\":\"count\",\"kind\":" + quoted(kind) + ",\"count\":" + std::to_string(count) + "}");
    }
    answer("{\"event\":\"done\"}");
    fflush(stdout);
    _exit(0);
}

// --- the session
// ------------------------------------------------------------------------------------------------------

int64_t now_ms() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Runs one request in a child, passes its answers on and ends with what became of it.
void serve(const Request& request) {
    int channel[2];
    if (pipe2(channel, O_CLOEXEC) != 0) {
        exit(1);
    }
    const pid_t child = fork();
    if (child < 0) {
        exit(1);
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(channel[0]);
        answer_fd = channel[1];
        const int log = open((request.shared + ".log").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        const int nothing = open("/dev/null", O_RDONLY);
        dup2(nothing, 0);
        dup2(log, 1);
        dup2(log, 2);
        audit.request = request;
        run_request();
    }
    close(channel[1]);
    const int64_t deadline = now_ms() + static_cast<int64_t>(request.timeout_ms);
    bool timed_out = false;
    std::vector<char> buffer(1 << 16);
    std::string last;
    for (;;) {
        pollfd wait_for = {channel[0], POLLIN, 0};
        const int64_t left = deadline - now_ms();
        const int ready = left > 0 ? poll(&wait_for, 1, static_cast<int>(std::min<int64_t>(left, 1 << 30))) : 0;
        if (ready == 0) {
            timed_out = true;
            kill(child, SIGKILL);
            break;
        }
        if (ready < 0) {
            continue;
        }
        const ssize_t n = read(channel[0], buffer.data(), buffer.size());
        if (n <= 0) {
            break;
        }
        last.append(buffer.data(), static_cast<size_t>(n));
        const size_t whole = last.rfind('\n');
        if (whole != std::string::npos) {
            fwrite(last.data(), 1, whole + 1, stdout);
            last.erase(0, whole + 1);
        }
    }
    close(channel[0]);
    int status = 0;
    waitpid(child, &status, 0);
    printf("{\"event\":\"end\",\"timed_out\":%s,\"signal\":%d,\"exit\":%d}\n", timed_out ? "true" : "false",
           WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    fflush(stdout);
}

std::vector<uint8_t> from_hex(const std::string& text) {
    std::vector<uint8_t> out;
    for (size_t i = 0; i + 1 < text.size(); i += 2) {
        out.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
    }
    return out;
}

// Whole numbers of a line, blank-separated.
template <class Number>
std::vector<Number> numbers(const std::string& line) {
    std::vector<Number> out;
    const char* at = line.c_str();
    for (char* end = nullptr;; at = end) {
        const long long value = strtoll(at, &end, 10);
        if (end == at) {
            return out;
        }
        out.push_back(static_cast<Number>(value));
    }
}

void read_field(Request& request, const std::string& line) {
    const size_t blank = line.find(' ');
    const std::string field = line.substr(0, blank);
    const std::string value = blank == std::string::npos ? "" : line.substr(blank + 1);
    const auto number = strtoull(value.c_str(), nullptr, 10);
    if (field == "library") request.library = value;
    else if (field == "shared") request.shared = value;
    else if (field == "glue") request.glue_library = value;
    else if (field == "glue") request.glue_library = value;
    else if (field == "guid") request.guid = value;
    else if (field == "kernel") request.kernel = value;
    else if (field == "device") request.device = static_cast<uint32_t>(number);
    else if (field == "slm") request.slm_limit = static_cast<uint32_t>(number);
    else if (field == "seed") request.seed = number;
    else if (field == "cap") request.cap = number;
    else if (field == "timeout_ms") request.timeout_ms = number;
    else if (field == "memory_mb") request.memory_mb = number;
    else if (field == "sanitize") request.sanitize = number != 0;
    else if (field == "params") request.params = from_hex(value);
    else if (field == "scalar") request.scalars.push_back(static_cast<uint32_t>(number));
    else if (field == "geometry") request.geometry = numbers<int32_t>(value);
    else if (field == "trace") (request.trace = numbers<int32_t>(value)).resize(kMaxDims, 0);
    else if (field == "input" || field == "output") {
        std::vector<uint64_t> n = numbers<uint64_t>(value);
        n.resize(3 + kMaxDims, 1);
        TensorSpec spec{};
        spec.is_output = field == "output";
        spec.file_offset = n[0];
        spec.dtype = static_cast<uint32_t>(n[1]);
        spec.rank = static_cast<uint32_t>(n[2]);
        std::copy_n(n.begin() + 3, kMaxDims, spec.size);
        request.tensors.push_back(spec);
    }
}

}  // namespace

int main() {
    Request request;
    char* buffer = nullptr;
    size_t room = 0;
    for (ssize_t n; (n = getline(&buffer, &room, stdin)) > 0;) {
        const std::string line(buffer, static_cast<size_t>(n - (buffer[n - 1] == '\n')));
        if (line == "run") {
            serve(request);
            request = Request{};
        } else {
            read_field(request, line);
        }
    }
    return 0;
}
