# Linear attention: a dot product of features (elu + 1) in the place of softmax's exponential. The sums have names so
# that their gradients are matmuls and row sums too.
dtype T in bf16, f32

fn phi(x) = elu(x) + 1

op linear_causal(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    A[b,h,q,k] = sum[d](phi(Q[b,h,q,d]) * phi(K[b,h,k,d])) where k <= q
    Y[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])
    Z[b,h,q] = 1 / (sum[k](A[b,h,q,k]) + 1e-6)
    O[b,h,q,e] = Y[b,h,q,e] * Z[b,h,q]
}

op linear_both(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    A[b,h,q,k] = sum[d](phi(Q[b,h,q,d]) * phi(K[b,h,k,d]))
    Y[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])
    Z[b,h,q] = 1 / (sum[k](A[b,h,q,k]) + 1e-6)
    O[b,h,q,e] = Y[b,h,q,e] * Z[b,h,q]
}

vjp linear_causal wrt Q, K, V

vjp linear_both wrt Q, K, V
