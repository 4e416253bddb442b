# Linear attention (Katharopoulos et al. 2020): the softmax's exponential of a dot product is replaced by a dot
# product of positive features, elu + 1 in `linear`, ReLU in `linear_relu` (with the 1/1000 of Performer's, so that no
# row is divided by 0). `linear_bidirectional` sees every key, as encoders and cross attention do. All are written
# quadratically: reassociation is the compiler's job.
dtype T in bf16, f32

fn elu_feature(x) = elu(x) + 1

fn relu_feature(x) = relu(x) + 0.001

op linear(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    A[b,h,q,k] = sum[d](elu_feature(Q[b,h,q,d]) * elu_feature(K[b,h,k,d])) where k <= q
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / (sum[k](A[b,h,q,k]) + 1e-6)
}

op linear_relu(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    A[b,h,q,k] = sum[d](relu_feature(Q[b,h,q,d]) * relu_feature(K[b,h,k,d])) where k <= q
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / sum[k](A[b,h,q,k])
}

op linear_bidirectional(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, M, E]
{
    A[b,h,q,k] = sum[d](elu_feature(Q[b,h,q,d]) * elu_feature(K[b,h,k,d]))
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / (sum[k](A[b,h,q,k]) + 1e-6)
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }
