/* webp.c - WebP through libwebp; alpha is dropped. */
#include <webp/decode.h>
#include <webp/demux.h>

#include "picture/decoders.h"

static void find_orientation(struct decoding *d) {
    WebPData file = { d->data, d->n };
    WebPDemuxer *demux = WebPDemux(&file);
    WebPChunkIterator chunk;
    if (demux != NULL && WebPDemuxGetChunk(demux, "EXIF", 1, &chunk)) {
        d->orientation = exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(demux);
}

static const char *status_text(VP8StatusCode status) {
    switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return "the file ends before the picture does";
    case VP8_STATUS_BITSTREAM_ERROR:
        return "the picture data are damaged";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return "the file uses something that libwebp does not know";
    case VP8_STATUS_OUT_OF_MEMORY:
        return "not enough memory";
    default:
        return "the file is damaged";
    }
}

slm_err decode_webp(struct decoding *d) {
    WebPDecoderConfig config;
    d->out.format = "WebP";
    if (!WebPInitDecoderConfig(&config))
        return decode_fail(d, SLM_E_UNSUPPORTED,
                           "libwebp has another version than it was built for");
    VP8StatusCode status = WebPGetFeatures(d->data, d->n, &config.input);
    if (status != VP8_STATUS_OK)
        return decode_fail(d, SLM_E_FORMAT, "WebP: %s", status_text(status));
    if (config.input.has_animation)
        return decode_fail(d, SLM_E_UNSUPPORTED, "an animated WebP; one picture is wanted");
    find_orientation(d);
    slm_err err = decode_room(d, (uint64_t)config.input.width, (uint64_t)config.input.height);
    if (err != SLM_OK)
        return err;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = d->out.data;
    config.output.u.RGBA.stride = config.input.width * 3;
    config.output.u.RGBA.size = (size_t)d->out.width * d->out.height * 3;
    status = WebPDecode(d->data, d->n, &config);
    WebPFreeDecBuffer(&config.output);
    return status == VP8_STATUS_OK ? SLM_OK
                                   : decode_fail(d, SLM_E_FORMAT, "WebP: %s", status_text(status));
}
