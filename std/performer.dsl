# FAVOR+ (Choromanski et al. 2021), causal: linear attention whose features, exp(w x - |x|^2 / 2) over R random directions
# w, approximate softmax attention. A maximum is taken out of the exponents, per query and per head for keys, which the
# division cancels; `eps` keeps features positive as in Performer.
dtype T in bf16, f32

op performer(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], w: T[R, D], eps: f32 = 1e-4) -> O: T[B, H, N, E]
    where eps > 0, D >= 1
{
    index q in 0 .. N
    index k in 0 .. N
    Qw[b,h,q,r] = rsqrt(sqrt(D)) * sum[d](Q[b,h,q,d] * w[r,d])
    Kw[b,h,k,r] = rsqrt(sqrt(D)) * sum[d](K[b,h,k,d] * w[r,d])
    qq[b,h,q] = rsqrt(D) / 2 * sum[d](f32(Q[b,h,q,d]) * f32(Q[b,h,q,d]))
    kk[b,h,k] = rsqrt(D) / 2 * sum[d](f32(K[b,h,k,d]) * f32(K[b,h,k,d]))
    mq[b,h,q] = max[r](Qw[b,h,q,r])
    mk[b,h] = max[k, r](Kw[b,h,k,r])
    Fq[b,h,q,r]: T = exp(Qw[b,h,q,r] - qq[b,h,q] - mq[b,h,q]) + eps
    Fk[b,h,k,r]: T = exp(Kw[b,h,k,r] - kk[b,h,k] - mk[b,h]) + eps
    A[b,h,q,k] = sum[r](Fq[b,h,q,r] * Fk[b,h,k,r]) where k <= q
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / sum[k](A[b,h,q,k])
}

check odd { B = 1, H = 3, N = 65, D = 40, E = 24, R = 48 }
