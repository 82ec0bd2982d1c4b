#version 330 core

// Red: the part id. Green: how opaque the surface is, so that its silhouette can be compared with a rendered alpha.
uniform vec3 color;
uniform float opacity;
#ifdef TEXCOORD_0_LOC
in vec2 uv;
uniform sampler2D opacity_map;
uniform float cutoff;
#endif
out vec4 frag_color;

void main()
{
    float alpha = opacity;
#ifdef TEXCOORD_0_LOC
    float texel = texture(opacity_map, uv).a;
    if (texel < cutoff)
        discard;
    alpha *= texel;
#endif
    frag_color = vec4(color.r, alpha, 0.0, 1.0);
}
