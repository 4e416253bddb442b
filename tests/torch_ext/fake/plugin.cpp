// Plays Habana's PyTorch plugin where there is no Gaudi: a torch device "hpu" in host memory, and the custom op API, whose
// kernels are run by a function that the test gives.

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include "hpu_custom_op_pt2.h"

namespace {

const c10::Device kHpu(c10::DeviceType::HPU, 0);

// NoOpDeviceGuardImpl has no events; nothing here is asynchronous.
C10_REGISTER_GUARD_IMPL(HPU, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::HPU>);

struct HostMemory final : c10::Allocator {
    c10::DataPtr allocate(size_t bytes) override
    {
        void* data = std::malloc(bytes ? bytes : 1);
        return {data, data, &std::free, kHpu};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
    void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

HostMemory memory;

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>)
{
    const c10::DispatchKeySet keys(c10::DispatchKey::HPU);
    return at::detail::empty_strided_generic(size, stride, &memory, keys, type.value_or(at::kFloat));
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format)
{
    const c10::DispatchKeySet keys(c10::DispatchKey::HPU);
    return at::detail::empty_generic(size, &memory, keys, type.value_or(at::kFloat), format);
}

// The same memory as a CPU tensor.
at::Tensor on_host(const at::Tensor& tensor)
{
    const auto options = tensor.options().device(at::kCPU);
    return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), options);
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool)
{
    on_host(to).copy_(on_host(from));
    return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to)
{
    if (to.sizes() != from.sizes())
        at::native::resize_impl_cpu_(to.unsafeGetTensorImpl(), from.sizes(), std::nullopt);
    return copy_from(from, to, false);
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { at::native::cpu_fallback(op, stack); }

}  // namespace

TORCH_LIBRARY_IMPL(aten, HPU, m)
{
    m.impl("empty.memory_format", empty);
    m.impl("empty_strided", empty_strided);
    m.impl("_copy_from", copy_from);
    m.impl("_copy_from_and_resize", copy_from_and_resize);
    m.impl("_reshape_alias", at::native::_reshape_alias);
    m.impl("as_strided", at::native::as_strided_tensorimpl);
    m.impl("view", at::native::view);
}

TORCH_LIBRARY_IMPL(_, HPU, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

namespace habana::custom_op {
namespace {

using Run = int (*)(const char* guid, int inputs, int outputs, const int64_t* const* shapes, const int32_t* dims,
                    const int32_t* types, void* const* data, const void* params, size_t size);

std::map<std::string, UserCustomOpDescriptor>& registry()
{
    static std::map<std::string, UserCustomOpDescriptor> ops;
    return ops;
}

Run runner = nullptr;

}  // namespace

extern "C" void fake_hpu_run_kernels_with(Run run) { runner = run; }

const UserCustomOpDescriptor& UserCustomOpDescriptor::getUserCustomOpDescriptor(const std::string& op)
{
    return registry().at(op);
}

const std::string& UserCustomOpDescriptor::getSchemaName() const { return schema_; }
const std::string& UserCustomOpDescriptor::getGuid() const { return guid_; }
const OutputMetaFn& UserCustomOpDescriptor::getOutputMetaFn() const { return output_meta_fn_; }
const FillParamsFn& UserCustomOpDescriptor::getFillParamsFn() const { return fill_params_fn_; }

void registerUserCustomOp(const std::string& schema, const std::string& guid, OutputMetaFn output_meta_fn,
                          FillParamsFn fill_params_fn)
{
    registry().emplace(schema, UserCustomOpDescriptor(schema, guid, output_meta_fn, fill_params_fn));
}

std::vector<at::Tensor> UserCustomOpDescriptor::execute(const std::vector<c10::IValue>& inputs)
{
    std::vector<at::Tensor> tensors;
    for (const c10::IValue& value : inputs)
        if (value.isTensor())
            tensors.push_back(value.toTensor());
    const size_t given = tensors.size();
    std::vector<at::Tensor> made;
    for (const PartialOutputMetaData& meta : output_meta_fn_(inputs))
        made.push_back(at::empty(meta.shape, at::TensorOptions().dtype(meta.dtype).device(kHpu)));
    tensors.insert(tensors.end(), made.begin(), made.end());
    size_t size = 0;
    const std::shared_ptr<void> params = fill_params_fn_ ? fill_params_fn_(inputs, size) : nullptr;
    std::vector<const int64_t*> shapes;
    std::vector<int32_t> dims, types;
    std::vector<void*> data;
    for (const at::Tensor& tensor : tensors) {
        TORCH_CHECK(tensor.device() == kHpu && tensor.is_contiguous(), guid_, ": a TPC takes whole tensors of its own");
        shapes.push_back(tensor.sizes().data());
        dims.push_back(int32_t(tensor.dim()));
        types.push_back(int32_t(tensor.scalar_type()));
        data.push_back(tensor.data_ptr());
    }
    TORCH_CHECK(runner, "nobody runs the kernels");
    const int failed = runner(guid_.c_str(), int(given), int(made.size()), shapes.data(), dims.data(), types.data(),
                              data.data(), params.get(), size);
    TORCH_CHECK(!failed, guid_, ": the kernel did not run");
    return made;
}

}  // namespace habana::custom_op
