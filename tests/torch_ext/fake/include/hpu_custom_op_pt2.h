// What tpcgen uses of Habana's custom op API, declared anew: names and signatures of hpu_custom_op_pt2.h in
// gaudi-pytorch-bridge 1.19. Tests build against the bridge's own header where $GAUDI_PYTORCH_BRIDGE names a checkout.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/stack.h>

namespace habana {

struct PartialOutputMetaData {
    at::ScalarType dtype{at::ScalarType::Undefined};
    std::vector<int64_t> shape{};
};
using PartialOutputMetaDataVector = std::vector<PartialOutputMetaData>;

namespace custom_op {

using OutputMetaFn = std::function<PartialOutputMetaDataVector(const at::Stack&)>;
using FillParamsFn = std::function<std::shared_ptr<void>(const at::Stack&, size_t&)>;

class UserCustomOpDescriptor {
public:
    UserCustomOpDescriptor() {}
    UserCustomOpDescriptor(const std::string& schema, const std::string& guid, OutputMetaFn output_meta_fn,
                           FillParamsFn fill_params_fn = nullptr)
        : schema_(schema), guid_(guid), output_meta_fn_(output_meta_fn), fill_params_fn_(fill_params_fn)
    {
    }

    std::vector<at::Tensor> execute(const std::vector<c10::IValue>& inputs);
    static const UserCustomOpDescriptor& getUserCustomOpDescriptor(const std::string& op);
    const std::string& getSchemaName() const;
    const std::string& getGuid() const;
    const OutputMetaFn& getOutputMetaFn() const;
    const FillParamsFn& getFillParamsFn() const;

private:
    std::string schema_;
    std::string guid_;
    OutputMetaFn output_meta_fn_{nullptr};
    FillParamsFn fill_params_fn_{nullptr};
};

void registerUserCustomOp(const std::string& schema, const std::string& guid, OutputMetaFn output_meta_fn,
                          FillParamsFn fill_params_fn);

}  // namespace custom_op
}  // namespace habana
