# What attention computes beside its products: turned positions, norms, the state of linear attention.
# Llama's pairs of channels, with tables as wide as a head.
op rope(X: bf16[B, H, N, D], c: bf16[N, D], s: bf16[N, D]) -> Y: bf16[B, H, N, D]
    where D % 2 == 0
{
    let F = D // 2
    Y[b,h,n,d] = X[b,h,n,d] * c[n,d] + select(d < F, -X[b, h, n, d + F], X[b, h, n, d - F]) * s[n,d]
}

op rms_norm(X: bf16[M, N], w: bf16[N], eps: f32 = 0.00001) -> Y: bf16[M, N]
{
    r[m] = rsqrt(sum[n](X[m,n] * X[m,n]) / N + eps)
    Y[m,n] = X[m,n] * r[m] * w[n]
    schedule { lane Y n; }
}

op decayed_scan(U: f32[B, C, D, E], g: f32[B, C]) -> S: f32[B, C, D, E]
{
    scan t in 0 .. C {
        state A[b,d,e]: f32 = 0
        S[b,t,d,e] = A[b,d,e]
        A[b,d,e] := g[b,t] * A[b,d,e] + U[b,t,d,e]
    }
}

check odd { B = 2, H = 3, N = 129, M = 7, D = 66, E = 63, C = 5 }
check one { B = 1, H = 1, N = 1, M = 1, D = 2, E = 1, C = 1 }
