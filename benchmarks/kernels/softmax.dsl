# Softmax along rows, vectors across them; along the lanes; and where the program bounds the scores.
op softmax_rows(X: bf16[M, N]) -> Y: bf16[M, N]
{
    Y[m,n] = softmax[m](X[m,n])
    schedule { lane Y n; }
}

op softmax_bounded(X: bf16[M, N]) -> Y: bf16[M, N]
    where -1000 <= X[m,n] <= 1000
{
    Y[m,n] = softmax[m](X[m,n])
    schedule { lane Y n; }
}

op softmax_lanes(X: bf16[M, N]) -> Y: bf16[M, N]
{
    Y[m,n] = softmax[n](X[m,n])
    schedule { lane Y n; }
}

# The scores of causal attention with ALiBi and a soft cap, as a row of keys per query.
op scores(X: bf16[H, N, M], slope: f32[H], D: int = 64, cap: f32 = 30) -> Y: bf16[H, N, M]
    where M <= N
{
    S[h,k,q] = cap * tanh(rsqrt(D) / cap * X[h,k,q]) + slope[h] * (k - (q + N - M))
    Y[h,k,q] = softmax[k where k <= q + N - M](S[h,k,q])
    schedule { lane Y q; }
}

check odd { M = 65, N = 129, H = 2 }
check one { M = 1, N = 1, H = 1 }
check wide { M = 7, N = 296, H = 1 }
