# Contractions on the vector units.
dtype T in bf16, f32

op matrix_mul(A: f32[M, K], B: f32[K, N]) -> C: f32[M, N]
{
    C[m,n] = sum[k](A[m,k] * B[k,n])
    schedule { place C tpc; }
}

op outer_products(K: T[B, C, L, D], V: T[B, C, L, E]) -> U: f32[B, C, D, E]
{
    U[b,c,d,e] = sum[t](K[b,c,t,d] * V[b,c,t,e])
    schedule { place U tpc; }
}

check odd { M = 7, N = 129, K = 65, B = 2, C = 3, L = 33, D = 17, E = 63 }
check one { M = 1, N = 1, K = 1, B = 1, C = 1, L = 1, D = 1, E = 1 }
