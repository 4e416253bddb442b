# Swin's windows of Y by X pixels (Liu et al. 2021): full attention in a window, with a learned bias per head and
# relative position in the plane. In `swin_shifted` the windows of an image (window b is number b % G of its image) have
# been rolled, and `region` says which pixels were neighbours before: a pixel sees those of its own region only.
dtype T in bf16, f32

op swin(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], table: f32[(2 * Y - 1) * (2 * X - 1), H], Y: int, X: int)
    -> O: T[B, H, N, E]
    where Y >= 1, X >= 1, N == Y * X
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
        + table[(q // X - k // X + Y - 1) * (2 * X - 1) + q % X - k % X + X - 1, h]
    P[b,h,q,k] = softmax[k](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op swin_shifted(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    table: f32[(2 * Y - 1) * (2 * X - 1), H],
    region: i32[G, N],
    Y: int,
    X: int,
) -> O: T[B, H, N, E]
    where Y >= 1, X >= 1, N == Y * X, G >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
        + table[(q // X - k // X + Y - 1) * (2 * X - 1) + q % X - k % X + X - 1, h]
    P[b,h,q,k] = softmax[k where region[b % G, q] == region[b % G, k]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 4, H = 3, N = 35, D = 24, E = 24, Y = 7, X = 5, G = 2 }
